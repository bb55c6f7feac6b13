"""What sessions need from the disk. Native only: see ``parked.pxd``."""
