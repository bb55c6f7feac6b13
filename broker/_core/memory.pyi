"""Memory of the core: slabs, the outbox pool and allocation that never returns NULL. Native only: see ``memory.pxd``."""
