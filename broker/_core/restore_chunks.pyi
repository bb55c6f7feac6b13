"""Chunks of messages come back from disk. Native only: see ``restore_chunks.pxd``."""
