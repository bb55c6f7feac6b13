"""A subscription is made or replaced. Native only: see ``subscribing.pxd``."""
