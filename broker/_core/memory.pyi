"""Memory of the core: slabs, pools and allocation. Native only: see ``memory.pxd``."""
