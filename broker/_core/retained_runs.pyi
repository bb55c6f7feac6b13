"""Walks over the retained messages that a filter matches. Native only: see ``retained_runs.pxd``."""
