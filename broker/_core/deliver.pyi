"""Routing and delivery. Native only: see ``deliver.pxd``."""
