"""Token buckets, usage and quotas. Native only: see ``limiter.pxd``."""
