"""The timing wheel: five levels of 64 slots, a tick of 16.8 ms. Native only: see ``timers.pxd``."""
