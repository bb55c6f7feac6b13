"""Connections that have proven nothing, by address. Native only: see ``strangers.pxd``."""
