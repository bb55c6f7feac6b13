"""TLS by Python's ssl objects, where the core cannot use OpenSSL itself. Native only: see ``tls_object.pxd``."""
