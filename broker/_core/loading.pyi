"""Chunks of messages that were read. Native only: see ``loading.pxd``."""
