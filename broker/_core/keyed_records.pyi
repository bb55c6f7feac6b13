"""Records of the open batch that have keys of their own. Native only: see ``keyed_records.pxd``."""
