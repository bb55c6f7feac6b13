"""What is left of rights that have gone. Native only: see ``revocation.pxd``."""
