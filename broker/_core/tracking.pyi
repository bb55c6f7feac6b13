"""What becomes of messages that somebody asks about. See tracking.pxd."""
