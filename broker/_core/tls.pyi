"""TLS contexts: a certificate, its key, and who may come in; made of PEM bytes."""

import ssl
from typing import Literal, final

PROTOCOLS: dict[str, bytes]
"""What a context may be asked for as ALPN's protocol, and its bytes on the wire."""

@final
class TlsContext:
    """A server's context: TLS 1.2 and later, forward secret ciphers, session tickets, no renegotiation or compression.

    ``certificate_chain`` begins with the server's own certificate. With ``client_certificate`` ``optional`` or
    ``required``, clients' certificates must be signed by ``client_ca`` and not stand in ``crl``. ``protocol`` is the
    ALPN protocol that is chosen when it is offered. ``previous`` is the context that this one replaces: its tickets are
    still taken. Where certificates are asked for none are given. ``native=False`` uses Python's ``ssl`` objects, as
    happens by itself where the core cannot use the library that Python has loaded; their tickets end with them.

    Raises ``ValueError`` with what is wrong with certificate, key, CA or list.
    """

    def __new__(
        cls,
        certificate_chain: bytes,
        private_key: bytes,
        *,
        client_ca: bytes = b"",
        crl: bytes = b"",
        client_certificate: str = "off",
        protocol: Literal["mqtt", "http/1.1"] = "mqtt",
        previous: TlsContext | None = None,
        native: bool = True,
    ) -> TlsContext: ...
    @property
    def client_certificate(self) -> str:
        """``off``, ``optional`` or ``required``."""
        ...

    @property
    def fallback(self) -> ssl.SSLContext | None:
        """The context of Python's ``ssl`` behind this one; None when the core speaks TLS itself."""
        ...

    @property
    def is_native(self) -> bool:
        """Whether the core speaks TLS itself."""
        ...
