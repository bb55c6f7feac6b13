"""Certificates for tests: authorities, what they issue, and lists of what they revoke; as right or wrong as asked for.

Here belongs making them. Not here: the broker's own (``broker.net.certificates``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

DAY = timedelta(days=1)
AnyKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | dsa.DSAPrivateKey


@dataclass(frozen=True)
class Issued:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: AnyKey

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def fingerprint(self) -> str:
        return self.certificate.fingerprint(hashes.SHA256()).hex()

    @property
    def key_pem(self) -> bytes:
        return key_pem(self.key)

    def write(self, folder: Path, *chain: Issued, name: str = "server") -> tuple[Path, Path]:
        """Write certificate (with a chain behind it) and key, each replaced in one rename; gives both paths."""
        certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
        replace(certificate, self.pem + b"".join(one.pem for one in chain))
        replace(key, self.key_pem)
        return certificate, key


def replace(path: Path, content: bytes) -> None:
    """Write a file as careful programs do."""
    new = path.with_name(path.name + ".new")
    new.write_bytes(content)
    new.replace(path)


def key_pem(key: AnyKey, passphrase: bytes = b"") -> bytes:
    encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def authority(name: str = "Test CA", by: Issued | None = None) -> Issued:
    """Make an authority: a root, or one below ``by``."""
    return issue(name, by=by, ca=True, purposes=())


def issue(
    name: str,
    *,
    by: Issued | None = None,
    key: AnyKey | None = None,
    ca: bool = False,
    names: Sequence[str | x509.GeneralName] = ("localhost",),
    purposes: Sequence[ObjectIdentifier] = (ExtendedKeyUsageOID.SERVER_AUTH,),
    begins: datetime | None = None,
    ends: datetime | None = None,
) -> Issued:
    """Issue a certificate; without ``by`` it is signed with its own key."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if by is None else by.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins or now - DAY)
        .not_valid_after(ends or now + 90 * DAY)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if names and not ca:
        builder = builder.add_extension(x509.SubjectAlternativeName(_general(names)), False)
    if purposes:
        builder = builder.add_extension(x509.ExtendedKeyUsage(list(purposes)), False)
    signer = key if by is None else by.key
    digest = None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return Issued(builder.sign(signer, digest), key)


def client(name: str, by: Issued, *names: str | x509.GeneralName) -> Issued:
    """Issue a client's certificate; ``names`` are alternative ones."""
    return issue(name, by=by, names=names, purposes=(ExtendedKeyUsageOID.CLIENT_AUTH,))


@cache
def trusted() -> Issued:
    """The authority that all tests of a run may trust."""
    return authority()


@cache
def server() -> Issued:
    """A server on this machine, issued by it."""
    return issue("server", by=trusted(), names=("localhost", "127.0.0.1", "::1"))


def _general(names: Sequence[str | x509.GeneralName]) -> list[x509.GeneralName]:
    return [_name(one) if isinstance(one, str) else one for one in names]


def _name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def revoked(by: Issued, *certificates: Issued, until: datetime | None = None) -> bytes:
    """Make an authority's list of revoked certificates, as PEM."""
    now = datetime.now(UTC)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(by.certificate.subject)
        .last_update(min(now, until or now) - DAY)
        .next_update(until or now + 7 * DAY)
    )
    for one in certificates:
        entry = x509.RevokedCertificateBuilder().serial_number(one.certificate.serial_number).revocation_date(now)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(by.key, hashes.SHA256()).public_bytes(Encoding.PEM)
