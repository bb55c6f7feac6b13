"""OpenSSL's functions in the library that Python's own ``_ssl`` has loaded. See libssl.pxd, and libssl.pyi."""

import _ssl

cdef enum:
    OLDEST_VERSION = 0x30000000


cdef str look():
    # Why OpenSSL cannot be used from here; empty when it can.
    cdef bytes path = getattr(_ssl, "__file__", "").encode()
    cdef const char* missing = libssl_resolve(&LIB, NULL if not path else <const char*>path)
    if missing != NULL:
        return f"{missing.decode()} was not found in the library of Python's ssl module"
    if LIB.OpenSSL_version_num() < OLDEST_VERSION:
        return f"OpenSSL 3 is needed, Python's ssl module has {_ssl.OPENSSL_VERSION}"
    return ""


cdef str WHY_NOT = look()


def why_unusable():
    return WHY_NOT
