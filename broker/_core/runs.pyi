"""Long queues on disk, kept as runs. Native only: see ``runs.pxd``."""
