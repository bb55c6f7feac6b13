"""TLS by Python's ssl objects, where the core cannot use OpenSSL itself. Native only: see ``tls_object.pxd``."""

from typing import final

@final
class TlsObject:
    """One connection's TLS; made by the core alone."""
