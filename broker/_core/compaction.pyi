"""Chunks without what is done. Native only: see ``compaction.pxd``."""
