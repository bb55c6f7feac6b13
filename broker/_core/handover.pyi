"""What an ending session leaves to its shared groups. Native only: see ``handover.pxd``."""
