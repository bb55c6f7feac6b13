"""Topic filters of one account, and which subscriptions match. Native only: see ``topics.pxd``."""
