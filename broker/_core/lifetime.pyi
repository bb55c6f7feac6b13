"""Lives of sessions. Native functions only: see lifetime.pxd."""
