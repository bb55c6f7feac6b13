"""A client of TLS by OpenSSL itself, for what Python's ``ssl`` cannot do: exchanging keys within a connection.

Here belong the few calls that need it. Not here: what tests expect of them.
"""

from __future__ import annotations

import ctypes
import re
import socket
import ssl
from pathlib import Path
from types import TracebackType
from typing import Self

assert ssl.OPENSSL_VERSION  # its library is loaded: it must not be a second one


def _library() -> ctypes.CDLL:
    found = re.search(r"\S+/libssl\.so\S*", Path("/proc/self/maps").read_text(encoding="utf-8"))
    assert found is not None, "Python's ssl has no libssl of its own file"
    library = ctypes.CDLL(found[0])
    for name in ("TLS_client_method", "SSL_CTX_new", "SSL_new"):
        getattr(library, name).restype = ctypes.c_void_p
    for name in ("SSL_CTX_new", "SSL_new", "SSL_connect", "SSL_do_handshake", "SSL_free", "SSL_CTX_free"):
        getattr(library, name).argtypes = [ctypes.c_void_p]
    for name in ("SSL_set_fd", "SSL_key_update"):
        getattr(library, name).argtypes = [ctypes.c_void_p, ctypes.c_int]
    for name in ("SSL_write", "SSL_read"):
        getattr(library, name).argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int]
    return library


class OpensslClient:
    """One connection, verified by nobody; ``connect`` waits for the server."""

    def __init__(self) -> None:
        self._library = _library()
        self._context = self._library.SSL_CTX_new(self._library.TLS_client_method())
        self._ssl = self._library.SSL_new(self._context)
        self._socket = socket.socket()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._library.SSL_free(self._ssl)
        self._library.SSL_CTX_free(self._context)
        self._socket.close()

    def connect(self, port: int) -> None:
        self._socket.connect(("127.0.0.1", port))
        self._library.SSL_set_fd(self._ssl, self._socket.fileno())
        assert self._library.SSL_connect(self._ssl) == 1

    def update_keys(self, times: int) -> None:
        """Send KeyUpdates, which ask for none back (RFC 8446, section 4.6.3)."""
        for _ in range(times):
            assert self._library.SSL_key_update(self._ssl, 0) == 1
            assert self._library.SSL_do_handshake(self._ssl) == 1

    def send(self, data: bytes) -> None:
        assert self._library.SSL_write(self._ssl, data, len(data)) == len(data)

    def read(self, most: int) -> bytes:
        buffer = ctypes.create_string_buffer(most)
        got = self._library.SSL_read(self._ssl, buffer, most)
        return buffer.raw[: max(got, 0)]
