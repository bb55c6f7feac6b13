"""Who gets into a queue. Native only: see ``queue_intake.pxd``."""
