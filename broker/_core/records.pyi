"""Records on disk. Native, but for the names of their tables: see ``records.pxd``."""

TABLE_NAMES: tuple[str, ...]
