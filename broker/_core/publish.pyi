"""The inbound PUBLISH. Native only: see ``publish.pxd``."""
