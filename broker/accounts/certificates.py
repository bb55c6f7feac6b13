"""What a client's certificate says: which one it is, and whom it names.

Here belongs reading it. Not here: whether it is to be trusted, which TLS has judged by then; which device it stands for
(``authenticator``); and the server's own certificates (``broker.net.certificates``).
"""

from __future__ import annotations

import hashlib
import re
import string
import warnings
from dataclasses import dataclass
from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import NameOID

from broker.doors import CertificateNames
from broker.errors import BadRequest

REMEMBERED_MAXIMUM = 1000
FINGERPRINT = re.compile(r"[0-9a-f]{64}")
ASCII_LOWER = {ord(letter): letter.lower() for letter in string.ascii_uppercase}
URN = re.compile(r"\Aurn:.*:", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """One certificate; ``fingerprint`` is the SHA-256 of its DER as 64 lower-case hexadecimal digits.

    ``issuer`` (see ``comparable_name``) and ``serial`` are what a revocation list knows it by. ``alternative_names``
    are DNS names, and URIs; of a URN the part behind its last colon.
    """

    fingerprint: str
    issuer: bytes
    serial: int
    common_names: tuple[str, ...]
    alternative_names: tuple[str, ...]

    def names(self, which: CertificateNames) -> tuple[str, ...]:
        """Give the names that may be those of a device, as the listener has it."""
        return self.common_names if which == "subject" else self.alternative_names


@lru_cache(REMEMBERED_MAXIMUM)
def read_certificate(der: bytes) -> ClientCertificate:
    """Read a certificate. Raises ``ValueError`` for what is none, and for one whose names cannot be read."""
    try:
        with warnings.catch_warnings(action="ignore"):  # about what somebody else has issued
            return _read(der)
    except (
        TypeError,
        UnsupportedAlgorithm,
        x509.DuplicateExtension,
        x509.InvalidVersion,
        x509.UnsupportedGeneralNameType,
    ) as error:
        raise ValueError(f"a certificate that cannot be read: {error}") from error


def _read(der: bytes) -> ClientCertificate:
    certificate = x509.load_der_x509_certificate(der)
    return ClientCertificate(
        fingerprint=hashlib.sha256(der).hexdigest(),
        issuer=comparable_name(certificate.issuer),
        serial=certificate.serial_number,
        common_names=_texts(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)),
        alternative_names=_alternative_names(certificate),
    )


def comparable_name(name: x509.Name) -> bytes:
    """Give what two names have in common that are the same for TLS (RFC 5280, section 7.1, as OpenSSL has it).

    The kind of string does not matter, nor the case of ASCII letters, nor how much blank there is.
    """
    return repr([sorted(map(_comparable_attribute, part)) for part in name.rdns]).encode()


def _comparable_attribute(attribute: x509.NameAttribute[str | bytes]) -> tuple[str, str]:
    value = attribute.value
    text = " ".join(value.translate(ASCII_LOWER).split()) if isinstance(value, str) else value.hex()
    return attribute.oid.dotted_string, text


def check_fingerprint(fingerprint: str) -> str:
    """Return a fingerprint in the form in which it is stored, or none (empty). Raises ``BadRequest`` for another."""
    if fingerprint and FINGERPRINT.fullmatch(fingerprint) is None:
        expected = "64 lower-case hexadecimal digits: the SHA-256 of a certificate"
        raise BadRequest(
            f"certificate_fingerprint: expected {expected}",
            field="certificate_fingerprint",
            provided=fingerprint,
            expected=expected,
        )
    return fingerprint


def _texts(attributes: list[x509.NameAttribute[str | bytes]]) -> tuple[str, ...]:
    return tuple(one.value for one in attributes if isinstance(one.value, str))


def _alternative_names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    return (*names.get_values_for_type(x509.DNSName), *(URN.sub("", uri, count=1) for uri in uris))
