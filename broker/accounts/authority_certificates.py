"""The certificate of an account's authority, and the proof that the account owns its key.

Here belong reading and judging both. Not here: whose authority it is (``authorities``).
"""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from broker.accounts.certificates import comparable_name
from broker.errors import BadRequest

PEM_MAXIMUM_CHARACTERS = 16 * 1024
RSA_MINIMUM_BITS = 2048
JUDGED_MAXIMUM = 1000
BEGIN = "-----BEGIN CERTIFICATE-----"
UNREADABLE = (ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.InvalidVersion)


@dataclass(frozen=True, slots=True)
class AuthorityCertificate:
    """What is known of one: ``fingerprint`` of its DER and ``key_digest`` of its public key, SHA-256 in hexadecimal."""

    der: bytes
    fingerprint: str
    key_digest: str
    subject: bytes
    not_after: int


def read_authority(pem: str, now_s: int) -> AuthorityCertificate:
    """Read the one certificate of a PEM text. Raises ``BadRequest`` for what is none, or that of no authority."""
    certificate = _one(pem)
    try:
        _check_authority(certificate, now_s)
        return describe(certificate.public_bytes(Encoding.DER))
    except UNREADABLE as error:
        raise _refused("the certificate of an authority that can be read") from error


@lru_cache(JUDGED_MAXIMUM)
def describe(der: bytes) -> AuthorityCertificate:
    """Give what is known of a certificate that was read once. Raises ``ValueError`` for a damaged one."""
    certificate = _loaded(der)
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    ends = int(certificate.not_valid_after_utc.timestamp())
    subject = comparable_name(certificate.subject)
    digests = hashlib.sha256(der).hexdigest(), hashlib.sha256(key).hexdigest()
    return AuthorityCertificate(der, *digests, subject, ends)


def check_proof(pem: str, authority: bytes, code: str, now_s: int) -> None:
    """Judge a certificate that the authority (DER) has issued for a code. Raises ``BadRequest`` for anything else."""
    certificate = _one(pem)
    try:
        names = [one.value for one in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        fits = names == [code] and _is_of_now(certificate, now_s)
        issued = fits and is_issued_by(certificate.public_bytes(Encoding.DER), authority)
    except UNREADABLE:
        issued = False
    if not issued:
        raise _refused(
            "a certificate that this authority has issued, whose common name is the code, and which is valid"
        )


@lru_cache(JUDGED_MAXIMUM)
def is_issued_by(der: bytes, authority: bytes) -> bool:
    """Tell whether an authority has signed a certificate itself; both as DER."""
    try:
        _loaded(der).verify_directly_issued_by(_loaded(authority))
    except (*UNREADABLE, InvalidSignature):
        return False
    return True


@lru_cache(JUDGED_MAXIMUM)
def issuer_of(der: bytes) -> bytes:
    """Give who has issued a certificate, as ``comparable_name``. Raises ``ValueError`` for what is none."""
    try:
        return comparable_name(_loaded(der).issuer)
    except UNREADABLE as error:
        raise ValueError("a certificate that cannot be read") from error


def _one(pem: str) -> x509.Certificate:
    expected = "one certificate as PEM"
    if len(pem) > PEM_MAXIMUM_CHARACTERS or pem.count(BEGIN) != 1:
        raise _refused(expected)
    try:
        with warnings.catch_warnings(action="ignore"):  # about what somebody else has issued
            return x509.load_pem_x509_certificate(pem.encode())
    except UNREADABLE as error:
        raise _refused(expected) from error


def _loaded(der: bytes) -> x509.Certificate:
    with warnings.catch_warnings(action="ignore"):
        return x509.load_der_x509_certificate(der)


def _check_authority(certificate: x509.Certificate, now_s: int) -> None:
    if not _may_issue(certificate):
        raise _refused("the certificate of an authority: basic constraints with CA, and a key usage that signs, if any")
    if not _is_of_now(certificate, now_s):
        raise _refused("a certificate that is valid now")
    key = certificate.public_key()
    strong = isinstance(key, ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey)
    if not strong and not (isinstance(key, rsa.RSAPublicKey) and key.key_size >= RSA_MINIMUM_BITS):
        raise _refused(f"a key of an elliptic curve, Ed25519, or RSA with {RSA_MINIMUM_BITS} bits or more")


def _may_issue(certificate: x509.Certificate) -> bool:
    try:
        if not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return False
    except x509.ExtensionNotFound:
        return False
    try:
        return bool(certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign)
    except x509.ExtensionNotFound:
        return True


def _is_of_now(certificate: x509.Certificate, now_s: int) -> bool:
    return certificate.not_valid_before_utc <= datetime.fromtimestamp(now_s, UTC) <= certificate.not_valid_after_utc


def _refused(expected: str) -> BadRequest:
    return BadRequest(f"certificate: expected {expected}", field="certificate", expected=expected)
