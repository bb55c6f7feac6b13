"""What is found of each session while the shard is restored. Native only: see ``recovery.pxd``."""
