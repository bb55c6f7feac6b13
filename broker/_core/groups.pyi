"""Shared groups and the order of their members. Native only: see ``groups.pxd``."""
