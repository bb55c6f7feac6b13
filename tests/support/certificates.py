"""Certificates for tests: an authority, what it signs, and what it takes back.

Here belongs making them. Not here: the broker's own authority (``broker.net.certificates``).
"""

from __future__ import annotations

import datetime
from functools import cache

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

DAY = datetime.timedelta(days=1)


class Authority:
    """A private CA."""

    def __init__(self) -> None:
        self.ca = trustme.CA()
        self.pem = self.ca.cert_pem.bytes()

    def server(self, *names: str) -> tuple[bytes, bytes]:
        """A server's chain and key, for localhost unless told otherwise."""
        issued = self.ca.issue_cert(*(names or ("localhost", "127.0.0.1", "::1")))
        return b"".join(one.bytes() for one in issued.cert_chain_pems), issued.private_key_pem.bytes()

    def client(self, common_name: str) -> tuple[bytes, bytes]:
        """A client's certificate and key."""
        issued = self.ca.issue_cert(f"{common_name}.example.org", common_name=common_name)
        return issued.cert_chain_pems[0].bytes(), issued.private_key_pem.bytes()

    def revoke(self, *certificates: bytes) -> bytes:
        """The list (PEM) that takes these certificates back."""
        now = datetime.datetime.now(datetime.UTC)
        issuer = x509.load_pem_x509_certificate(self.pem)
        key = serialization.load_pem_private_key(self.ca.private_key_pem.bytes(), None)
        builder = x509.CertificateRevocationListBuilder(issuer.subject, now - DAY, now + DAY)
        for pem in certificates:
            serial = x509.load_pem_x509_certificate(pem).serial_number
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now - DAY).build()
            )
        return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)  # type: ignore[arg-type]


@cache
def authority() -> Authority:
    """The one that all tests of a run trust."""
    return Authority()


@cache
def server_files() -> tuple[bytes, bytes]:
    """Chain and key of a server on this machine."""
    return authority().server()


def der(pem: bytes) -> bytes:
    return x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER)
