"""What is on disk becomes the shard's again. Native only: see ``restore.pxd``."""
