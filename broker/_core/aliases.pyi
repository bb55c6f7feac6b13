"""Topic aliases of one connection, both ways. Native only: see ``aliases.pxd``."""
