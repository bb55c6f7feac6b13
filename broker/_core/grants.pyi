"""Accounts, principals, credentials and rights. Native only: see ``grants.pxd``."""
