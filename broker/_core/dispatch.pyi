"""From bytes to packets to the module that handles them. Native only: see ``dispatch.pxd``."""
