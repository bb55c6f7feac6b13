"""Topic filters with wildcards. Native only: see ``trie.pxd``."""
