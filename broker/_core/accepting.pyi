"""Who comes in, and by what he comes. Native only: see ``accepting.pxd``."""
