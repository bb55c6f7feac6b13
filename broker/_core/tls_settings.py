"""What every TLS context of this broker allows, and the same as a context of Python's ``ssl``.

Here belong versions, ciphers and times. Not here: contexts of the core (``tls``), files.
"""

from __future__ import annotations

import fcntl
import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO

CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2, in OpenSSL's words: forward secret and authenticated. TLS 1.3 has no others."""

CLIENT_CERTIFICATES_MAXIMUM_BYTES = 10 * 1024
"""Of a client's certificate and those that issued it: each is read before any is judged, and a hundred take 30 ms.

Python's ``ssl`` has no such limit, but OpenSSL's own of 100 KiB: there a client's answer has 2 KiB more in all.
"""

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
    if client_certificate == "off":
        context.num_tickets = 1
    else:  # a ticket would let in whom a look at the certificate, its dates and the lists would not
        context.num_tickets = 0
        context.options |= ssl.OP_NO_TICKET
    context.set_alpn_protocols([protocol])
    _load_chain(context, certificate_chain, private_key)
    _trust(context, client_ca, crl)
    context.verify_mode = {"off": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL}.get(
        client_certificate, ssl.CERT_REQUIRED
    )
    return context


def _load_chain(context: ssl.SSLContext, certificate_chain: bytes, private_key: bytes) -> None:
    with _readable(certificate_chain) as chain, _readable(private_key) as key:
        try:
            context.load_cert_chain(chain, key, password="")  # else OpenSSL asks at the terminal
        except OSError as error:  # ssl.SSLError, or what the pipe said last
            raise ValueError(f"OpenSSL does not take the certificate: {error}") from error


def _trust(context: ssl.SSLContext, client_ca: bytes, crl: bytes) -> None:
    try:
        if client_ca:
            context.load_verify_locations(cadata=client_ca.decode())
        if crl:
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
            with _readable(crl) as path:
                context.load_verify_locations(path)
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"OpenSSL does not take the authorities of clients: {error}") from error


@contextmanager
def _readable(content: bytes) -> Iterator[str]:
    """Give a path where content can be read once: OpenSSL opens paths alone, and a key goes into no file.

    It is the end of a pipe that holds all of it, which needs no disk. Raises ``ValueError``.
    """
    source, sink = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        with os.fdopen(sink, "wb", buffering=0) as out:
            _fill(out, content)
        yield f"/proc/self/fd/{source}"
    finally:
        os.close(source)


def _fill(pipe: FileIO, content: bytes) -> None:
    try:
        if len(content) > fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, len(content))
        whole = pipe.write(content) == len(content)
    except OSError as error:
        raise ValueError(f"{len(content)} bytes cannot be handed to OpenSSL: {error.strerror}") from error
    if not whole:
        raise ValueError(f"{len(content)} bytes cannot be handed to OpenSSL")
