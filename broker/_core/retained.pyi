"""Retained messages. Native only: see ``retained.pxd``."""
