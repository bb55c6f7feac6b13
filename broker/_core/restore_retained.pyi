"""Retained messages from disk. Native only: see ``restore_retained.pxd``."""
