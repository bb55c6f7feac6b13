"""Ops on disk, folded into flow records. Native only: see ``fold.pxd``."""
