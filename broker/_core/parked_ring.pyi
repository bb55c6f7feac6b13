"""Rings of parked deliveries, and runs of them. Native only: see ``parked_ring.pxd``."""
