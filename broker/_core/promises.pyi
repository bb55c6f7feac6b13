"""Promises that wait for their tickets. Native only: see ``promises.pxd``."""
