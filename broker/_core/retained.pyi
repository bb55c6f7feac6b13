"""Retained messages: set, cleared and expired, within quotas. Native only: see ``retained.pxd``."""
