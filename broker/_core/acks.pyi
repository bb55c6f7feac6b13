"""Acknowledgements both ways, and the promises behind tickets. Native only: see ``acks.pxd``."""
