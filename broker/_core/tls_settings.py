"""What every TLS context of this broker allows, and the same as a context of Python's ``ssl``.

Here belong versions, ciphers and times. Not here: contexts of the core (``tls``), files.
"""

from __future__ import annotations

import os
import ssl

CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2, in OpenSSL's words: forward secret and authenticated. TLS 1.3 has no others."""

SESSION_S = 24 * 3600
"""How long a client may come back with a session ticket, at most."""


def python_context(
    certificate_chain: bytes,
    private_key: bytes,
    client_ca: bytes = b"",
    crl: bytes = b"",
    client_certificate: str = "off",
    protocol: str = "mqtt",
) -> ssl.SSLContext:
    """Make a server's context of PEM bytes. Raises ``ValueError`` with what is wrong."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_ciphers(CIPHERS.decode())
    context.num_tickets = 1
    context.set_alpn_protocols([protocol])
    try:
        _load_chain(context, certificate_chain, private_key)
        if client_ca:
            context.load_verify_locations(cadata=client_ca.decode())
        if crl:
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
            _load_file(context, crl)
    except (ssl.SSLError, UnicodeDecodeError) as error:
        raise ValueError(f"the certificate, its key, the CA or its list is not taken: {error}") from error
    context.verify_mode = {"off": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL}.get(
        client_certificate, ssl.CERT_REQUIRED
    )
    return context


def _load_chain(context: ssl.SSLContext, certificate_chain: bytes, private_key: bytes) -> None:
    """``load_cert_chain`` takes files alone: these have no name in any directory."""
    with _Nameless(certificate_chain + b"\n" + private_key) as path:
        context.load_cert_chain(path, password="")  # else OpenSSL asks at the terminal


def _load_file(context: ssl.SSLContext, pem: bytes) -> None:
    with _Nameless(pem) as path:
        context.load_verify_locations(path)


class _Nameless:
    """A file in memory alone, by a path that ends with the block."""

    def __init__(self, content: bytes) -> None:
        self._fd = os.memfd_create("pem", os.MFD_CLOEXEC)
        os.write(self._fd, content)

    def __enter__(self) -> str:
        return f"/proc/self/fd/{self._fd}"

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)
