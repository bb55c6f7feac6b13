"""What goes when a session goes. Native only: see ``session_end.pxd``."""
