"""Application messages and the bytes of a PUBLISH. Native only: see ``message.pxd``."""
