"""The tree of topics that have a retained message. Native only: see ``retained_tree.pxd``."""
