"""Sessions on disk, by number. Native only: see ``durable_table.pxd``."""
