"""Figures of the core as Python reads them. Native only: see ``figures.pxd``."""
