"""What a private certification authority does: it makes itself, and certificates for one server.

Here belong the contents of certificates; time is an argument. Not here: files (``own``), and judging what others have
made (``material``).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_LIFE = timedelta(days=3652)  # ten years
SERVER_LIFE = timedelta(days=397)  # what clients that know a limit accept
CLOCKS_DIFFER = timedelta(days=1)  # devices whose clock is behind have to come in as well
ORGANIZATION = "iot-broker"
COMMON_NAME_MAXIMUM = 64  # ub-common-name of X.520


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, each as PEM."""

    certificate_pem: bytes
    private_key_pem: bytes = field(repr=False)


def make_authority(now: datetime) -> Pair:
    """Make an authority for ten years; its name is unlike that of any other."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject_key = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    name = _name(f"{ORGANIZATION} private CA {subject_key.digest[:4].hex()}")
    builder = (
        _builder(name, name, key.public_key(), now - CLOCKS_DIFFER, now + AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(subject_key, critical=False)
    )
    return _signed(builder, key, key)


def issue(authority: Pair, names: Sequence[str], now: datetime) -> Pair:
    """Make a server's certificate and key for 397 days, though never for longer than the authority lives.

    ``names`` are DNS names and addresses, the first of them the server's own. Raises ``ValueError`` for what cannot be
    a name, and for PEM that cannot be read.
    """
    issuer = x509.load_pem_x509_certificate(authority.certificate_pem)
    issuer_key = load_pem_private_key(authority.private_key_pem, None)
    if not isinstance(issuer_key, ec.EllipticCurvePrivateKey):
        raise ValueError("the authority's key is not on an elliptic curve")
    key = ec.generate_private_key(ec.SECP256R1())
    until = min(now + SERVER_LIFE, issuer.not_valid_after_utc)
    subject_key = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = (
        _builder(_name(names[0]), issuer.subject, key.public_key(), now - CLOCKS_DIFFER, until)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([general_name(name) for name in names]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(subject_key), critical=False)
    )
    return _signed(builder, key, issuer_key)


def general_name(name: str) -> x509.GeneralName:
    """Give an address or a DNS name as certificates have it. Raises ``ValueError`` for what is neither."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name.encode("idna").decode("ascii").lower())


def _name(common_name: str) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANIZATION)]
    if len(common_name) <= COMMON_NAME_MAXIMUM:  # what is longer is in the alternative names, where clients look
        attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, common_name))
    return x509.Name(attributes)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, since: datetime, until: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(since)
        .not_valid_after(until)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _signed(builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey, by: ec.EllipticCurvePrivateKey) -> Pair:
    certificate = builder.sign(by, hashes.SHA256())
    return Pair(
        certificate.public_bytes(Encoding.PEM),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )
