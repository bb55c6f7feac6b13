"""Wills on disk. Native only: see ``wills.pxd``."""
