"""Whether there is room for one more connection or session. Native only: see ``admission.pxd``."""
