"""Wills from disk. Native only: see ``restore_wills.pxd``."""
