"""Topic names, topic filters, and which subscriptions match. Native only: see ``topics.pxd``."""
