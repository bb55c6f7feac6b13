"""A round of the shard. Native only: see ``rounds.pxd``."""
