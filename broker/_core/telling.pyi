"""What has happened, as Python is told of it. Native only: see ``telling.pxd``."""
