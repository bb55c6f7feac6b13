"""The load generator counts right: tests of the instrument, not of the broker."""
