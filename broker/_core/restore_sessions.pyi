"""Sessions and subscriptions come back from disk. Native only: see ``restore_sessions.pxd``."""
