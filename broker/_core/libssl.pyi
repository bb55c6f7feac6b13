"""OpenSSL's functions in the library that Python's own ``ssl`` module has loaded: one process, one library."""

def why_unusable() -> str:
    """Say why the core cannot use that library itself, as with one built into the interpreter; empty when it can."""
    ...
