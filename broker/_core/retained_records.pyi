"""The records of retained messages. Native only: see ``retained_records.pxd``."""
