"""What a TLS listener is made of, read from PEM files and judged before anybody uses it.

Here belongs every check of files that people give us; an error names the file and what is wrong with it. Not here:
making certificates (``authority``), and when files are read again (``store``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from broker.accounts.certificates import comparable_name
from broker.errors import ConfigError

FILE_MAXIMUM_BYTES = 8 * 1024 * 1024
EXPIRES_SOON_S = 21 * 24 * 3600
RSA_MINIMUM_BITS = 2048  # what OpenSSL takes at its default security level
_CRL_BLOCK = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)
_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----")
_ADVICE = re.compile(r" See https?://\S+ for more details\.")  # the library's, to those who write programs

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey
T = TypeVar("T")
RevokedCertificates = frozenset[tuple[bytes, int]]


class CertificateError(ConfigError):
    """A file of a certificate cannot be used; the message names it."""


@dataclass(frozen=True, slots=True)
class MaterialFiles:
    """Where one listener's material is; certificate and key may be one file."""

    certificate: Path
    private_key: Path
    client_ca: Path | None = None
    crl: Path | None = None

    def paths(self) -> tuple[Path, ...]:
        """Give all of them, each once."""
        named = (self.certificate, self.private_key, self.client_ca, self.crl)
        return tuple(dict.fromkeys(path for path in named if path is not None))


@dataclass(frozen=True, slots=True)
class TlsMaterial:
    """Checked PEM for one listener; ``certificate_chain_pem`` begins with the listener's own certificate.

    ``fingerprint`` is that certificate's SHA-256 in hexadecimal digits, ``names`` the DNS names and addresses that it
    is for. The chain holds from ``not_before`` to ``not_after``, in seconds of UTC, and the revocation lists until
    ``crl_until`` (0: there is none, or it says no end); they take back ``revoked``, each by its issuer (see
    ``comparable_name``) and its serial number. ``without_list`` are the authorities of clients that have none though
    others do.
    """

    certificate_chain_pem: bytes
    private_key_pem: bytes = field(repr=False)
    client_ca_pem: bytes
    crl_pem: bytes
    fingerprint: str
    not_after: int
    names: tuple[str, ...]
    not_before: int = 0
    crl_until: int = 0
    revoked: RevokedCertificates = field(default=frozenset(), repr=False, compare=False)
    without_list: tuple[str, ...] = ()

    def doubts(self, now: datetime) -> list[str]:
        """Tell what is wrong now, or will be within 21 days, with what is in use all the same."""
        now_s, found = int(now.timestamp()), []
        if self.not_after <= now_s:
            found.append(f"the certificate ended on {_day(self.not_after)}: clients refuse it")
        elif self.not_after - now_s < EXPIRES_SOON_S:
            found.append(f"the certificate ends on {_day(self.not_after)}")
        if self.not_before > now_s:
            found.append(f"the certificate begins on {_day(self.not_before)}: clients refuse it")
        if self.crl_until and self.crl_until <= now_s:
            found.append(f"the revocation list was to be renewed by {_day(self.crl_until)}: no certificate is accepted")
        found += [f"no revocation list of {name}: whom it has signed is not let in" for name in self.without_list]
        return found


def load(files: MaterialFiles) -> TlsMaterial:
    """Read and judge one listener's files; what is only too old is in ``doubts``. Raises ``CertificateError``."""
    try:
        return _judged(files)
    except CertificateError:
        raise
    except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        # Keys, dates and extensions are looked at when they are asked for, and not when the PEM is read.
        raise CertificateError(f"{files.certificate}: damaged ({_first_line(error)})") from error


def _judged(files: MaterialFiles) -> TlsMaterial:
    chain = read_chain(files.certificate)
    key = _private_key(files.private_key)
    _check_key(files, chain[0], key)
    _check_order(files.certificate, chain)
    _check_purpose(files.certificate, chain[0])
    authorities, crls = _of_clients(files.client_ca, files.crl)
    return TlsMaterial(
        certificate_chain_pem=_pem(chain),
        private_key_pem=key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        client_ca_pem=_pem(authorities),
        crl_pem=_pem(crls),
        fingerprint=fingerprint_of(chain[0]),
        not_after=min(int(one.not_valid_after_utc.timestamp()) for one in chain),
        names=names_of(chain[0]),
        not_before=max(int(one.not_valid_before_utc.timestamp()) for one in chain),
        revoked=_revoked(crls),
        without_list=_without_list(authorities, crls) if crls else (),
        crl_until=min((int(one.next_update_utc.timestamp()) for one in crls if one.next_update_utc), default=0),
    )


def judge_files_of_clients(client_ca: Path | None, crl: Path | None) -> None:
    """Judge who may come in by certificate, without a listener's own. Raises ``CertificateError``."""
    _of_clients(client_ca, crl)


def _of_clients(
    client_ca: Path | None, crl: Path | None
) -> tuple[list[x509.Certificate], list[x509.CertificateRevocationList]]:
    authorities = [] if client_ca is None else _authorities(client_ca)
    return authorities, [] if crl is None else _crls(crl, authorities)


def fingerprint_of(certificate: x509.Certificate) -> str:
    """Give a certificate's SHA-256, as hexadecimal digits."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """Give the DNS names and addresses that a certificate is for; without any, the common name."""
    try:
        alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return tuple(str(one.value) for one in common)
    addresses = alternative.get_values_for_type(x509.IPAddress)
    return (*alternative.get_values_for_type(x509.DNSName), *(str(one) for one in addresses))


def read_chain(path: Path) -> list[x509.Certificate]:
    """Read all certificates of a file, which has at least one. Raises ``CertificateError``."""
    return _parsed(path, "certificate", x509.load_pem_x509_certificates, _read(path))


# ---------------------------------------------------------------- files


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(FILE_MAXIMUM_BYTES + 1)
    except OSError as error:
        raise CertificateError(f"{path}: {error.strerror or error}") from error
    if len(content) > FILE_MAXIMUM_BYTES:
        raise CertificateError(f"{path}: larger than {FILE_MAXIMUM_BYTES} bytes")
    return content


def _parsed(path: Path, what: str, parse: Callable[[bytes], T], content: bytes) -> T:
    try:
        return parse(content)
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        why = _something_else(what, content) or _first_line(error)
        raise CertificateError(f"{path}: no {what} in PEM that can be read ({why})") from error


def _something_else(what: str, content: bytes) -> str:
    """Tell what is in a file in place of what was looked for: nothing in PEM at all, or the other of the two files."""
    blocks = set(_BLOCK.findall(content))
    if not blocks:
        return "nothing in it is PEM, which begins with -----BEGIN"
    if what == "certificate" and all(one.endswith(b"PRIVATE KEY") for one in blocks):
        return "a private key is in it: are the two files mixed up?"
    if what == "private key" and blocks == {b"CERTIFICATE"}:
        return "a certificate is in it: are the two files mixed up?"
    return ""


def _private_key(path: Path) -> PrivateKey:
    try:
        key = _parsed(path, "private key", lambda pem: load_pem_private_key(pem, None), _read(path))
    except TypeError as error:
        raise CertificateError(f"{path}: the private key has a passphrase, which nobody could type in") from error
    if not isinstance(key, PrivateKey):
        raise CertificateError(f"{path}: a private key of a kind that TLS does not use")
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size < RSA_MINIMUM_BITS:
        raise CertificateError(f"{path}: an RSA key of {key.key_size} bits; {RSA_MINIMUM_BITS} are the least")
    return key


def _authorities(path: Path) -> list[x509.Certificate]:
    found = read_chain(path)
    for number, one in enumerate(found, 1):
        try:
            constraints = one.extensions.get_extension_for_class(x509.BasicConstraints).value
        except (x509.ExtensionNotFound, ValueError):
            constraints = x509.BasicConstraints(ca=False, path_length=None)
        if not constraints.ca:
            raise CertificateError(f"{path}: certificate {number} is no authority's, so it can have issued none")
    return found


def _crls(path: Path, authorities: Sequence[x509.Certificate]) -> list[x509.CertificateRevocationList]:
    blocks = _CRL_BLOCK.findall(_read(path))
    if not blocks:
        raise CertificateError(f"{path}: no revocation list in PEM that can be read")
    found = [_parsed(path, "revocation list", x509.load_pem_x509_crl, block) for block in blocks]
    for number, one in enumerate(found, 1):
        if not any(_is_list_of(one, authority) for authority in authorities):
            raise CertificateError(f"{path}: list {number} is of nobody in client_ca_file ({_text(one.issuer)})")
    return found


def _without_list(
    authorities: Sequence[x509.Certificate], crls: Sequence[x509.CertificateRevocationList]
) -> tuple[str, ...]:
    """Name the authorities whose clients nobody can look up; one that signs authorities of the file needs none."""
    signs_others = {one.issuer for one in authorities if one.issuer != one.subject}
    listed = {crl.issuer for crl in crls}
    return tuple(_text(one.subject) for one in authorities if one.subject not in listed | signs_others)


def _is_list_of(crl: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    try:
        return crl.issuer == authority.subject and crl.is_signature_valid(authority.public_key())  # type: ignore[arg-type]
    except (TypeError, ValueError, UnsupportedAlgorithm):
        return False


def _revoked(crls: Sequence[x509.CertificateRevocationList]) -> RevokedCertificates:
    return frozenset((comparable_name(crl.issuer), entry.serial_number) for crl in crls for entry in crl)


# ---------------------------------------------------------------- what fits


def _check_key(files: MaterialFiles, certificate: x509.Certificate, key: PrivateKey) -> None:
    spki = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    if certificate.public_key().public_bytes(*spki) != key.public_key().public_bytes(*spki):
        raise CertificateError(f"{files.private_key}: not the key of the certificate in {files.certificate}")


def _check_order(path: Path, chain: Sequence[x509.Certificate]) -> None:
    """Judge that each certificate was issued by the next one: clients build no order themselves."""
    for number, (one, issuer) in enumerate(pairwise(chain), 1):
        try:
            one.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm) as error:
            raise CertificateError(
                f"{path}: certificate {number} was not issued by certificate {number + 1}: "
                "the listener's own comes first, then who issued it, and so on"
            ) from error


def _check_purpose(path: Path, certificate: x509.Certificate) -> None:
    try:
        purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return
    except ValueError as error:
        raise CertificateError(f"{path}: damaged extensions ({_first_line(error)})") from error
    if not {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & set(purposes):
        raise CertificateError(f"{path}: the certificate is not for servers (extended key usage)")


def _pem(parsed: Sequence[x509.Certificate] | Sequence[x509.CertificateRevocationList]) -> bytes:
    """Give what was judged and nothing else: comments, and a key in the same file, stay behind."""
    return b"".join(one.public_bytes(Encoding.PEM) for one in parsed)


def _day(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")


def _text(name: x509.Name) -> str:
    return name.rfc4514_string() or "without a name"


def _first_line(error: Exception) -> str:
    return _ADVICE.sub("", (str(error).splitlines() or [type(error).__name__])[0])[:200]
