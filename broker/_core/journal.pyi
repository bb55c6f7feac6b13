"""The journal: batches, numbers and chunks. Native, but for the names: see ``journal.pxd``."""

TABLE_NAMES: tuple[str, ...]
