"""The certificates that the broker makes itself: a private authority and what it issues, under ``DATA_DIR/tls``.

    ca.pem       the authority's certificate, for clients (0644)
    ca.key       its key (0600)
    server.pem   the server's key and certificate (0600): one file, so that both change in one rename

Here belong those files, and when a new server certificate is due. Not here: what is in certificates (``authority``).
"""

from __future__ import annotations

import logging
import os
import shutil
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from broker.net.certificates.authority import Pair, general_name, issue, make_authority
from broker.net.certificates.material import CertificateError, MaterialFiles, fingerprint_of, load, read_chain
from broker.storage.folders import sync_folder

log = logging.getLogger(__name__)

AUTHORITY_FILE = "ca.pem"
AUTHORITY_KEY_FILE = "ca.key"
SERVER_FILE = "server.pem"
RENEWED_BEFORE = timedelta(days=30)
EARLIEST = datetime(2026, 1, 1, tzinfo=UTC)  # a clock that says less has not been set yet
LONGER_BY = timedelta(days=1)  # an authority near its own end issues nothing that lasts longer
ALWAYS = ("localhost", "127.0.0.1", "::1")
ANY_ADDRESS = ("", "0.0.0.0", "::")  # noqa: S104 - these are no names


@dataclass(frozen=True, slots=True)
class Authority:
    """Whom clients have to trust: where its certificate is, and its SHA-256 as ``AB:CD:...``."""

    file: Path
    fingerprint: str


def server_names(public_host: str, hosts: Iterable[str]) -> tuple[str, ...]:
    """Give what clients may call this server: the public host first, then this machine's names and addresses."""
    wanted = [public_host, *ALWAYS, socket.gethostname(), *hosts]
    names = [name for name in wanted if name not in ANY_ADDRESS and _can_be_named(name)]
    return tuple(dict.fromkeys(str(general_name(name).value) for name in names))


def _can_be_named(name: str) -> bool:
    try:
        general_name(name)
    except ValueError:
        return False
    return True


class OwnCertificates:
    """The authority and server certificate of one data directory, whose lock the caller holds."""

    def __init__(self, folder: Path, names: tuple[str, ...]) -> None:
        self._folder = folder
        self._names = names

    @property
    def files(self) -> MaterialFiles:
        """Where the server's certificate and key are."""
        return MaterialFiles(self._folder / SERVER_FILE, self._folder / SERVER_FILE)

    def authority(self) -> Authority:
        """Tell whom clients have to trust. Raises ``CertificateError``."""
        digits = fingerprint_of(read_chain(self._authority_file)[0]).upper()
        return Authority(self._authority_file, ":".join(digits[at : at + 2] for at in range(0, len(digits), 2)))

    @property
    def _authority_file(self) -> Path:
        return self._folder / AUTHORITY_FILE

    def ensure(self, now: datetime) -> bool:
        """Make what is missing, and a new server certificate where one is due; tells whether anything was made.

        After any crash all of it is there, or nothing. Raises ``OSError``; ``CertificateError`` for an authority that
        is damaged or not whole: a new one would be trusted by nobody.
        """
        now = max(now, EARLIEST)
        if not self._folder.exists():
            self._begin(now)
            return True
        why = self._why_due(now)
        if why:
            self._renew(why, now)
        return bool(why)

    def _begin(self, now: datetime) -> None:
        unfinished = self._folder.with_name(self._folder.name + ".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        authority = make_authority(now)
        _write(unfinished / AUTHORITY_FILE, authority.certificate_pem, 0o644)
        _write(unfinished / AUTHORITY_KEY_FILE, authority.private_key_pem, 0o600)
        _write(unfinished / SERVER_FILE, _in_one(issue(authority, self._names, now)), 0o600)
        sync_folder(unfinished)
        unfinished.rename(self._folder)
        sync_folder(self._folder.parent)
        log.info("made a private certification authority", extra={"fields": {"authority": str(self._authority_file)}})

    def _why_due(self, now: datetime) -> str:
        """Tell why a new server certificate is due; empty when none is."""
        authority = read_chain(self._authority_file)[0]
        try:
            chain = read_chain(self.files.certificate)
            material = load(self.files)
            chain[0].verify_directly_issued_by(authority)
        except InvalidSignature:
            return "it is of another authority"
        except (CertificateError, ValueError, TypeError) as error:
            return f"it cannot be used: {error}"
        if set(material.names) != set(self._names):
            return f"it is for {', '.join(material.names)}, and not {', '.join(self._names)}"
        return _end_words(chain[0], authority, now)

    def _renew(self, why: str, now: datetime) -> None:
        authority = Pair(_bytes_of(self._authority_file), _bytes_of(self._folder / AUTHORITY_KEY_FILE))
        try:
            content = _in_one(issue(authority, self._names, now))
        except (ValueError, TypeError, x509.ExtensionNotFound) as error:
            raise CertificateError(f"{self._folder}: no authority that can issue anything: {error}") from error
        unfinished = self._folder / f"{SERVER_FILE}.new"
        unfinished.unlink(missing_ok=True)
        _write(unfinished, content, 0o600)
        unfinished.rename(self.files.certificate)
        sync_folder(self._folder)
        log.info("made a new server certificate", extra={"fields": {"file": str(self.files.certificate), "why": why}})


def _end_words(server: x509.Certificate, authority: x509.Certificate, now: datetime) -> str:
    end = server.not_valid_after_utc
    if end - now > RENEWED_BEFORE or authority.not_valid_after_utc - end < LONGER_BY:
        return ""
    return f"it ends on {end:%Y-%m-%d}"


def _in_one(pair: Pair) -> bytes:
    return pair.private_key_pem + pair.certificate_pem


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CertificateError(
            f"{path}: {error.strerror}; without it no new server certificate can be made: bring it back from a backup, "
            f"or move {path.parent} away for a new authority, which clients then have to be given"
        ) from error


def _write(path: Path, content: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        os.fchmod(descriptor, mode)
        out.write(content)
        out.flush()
        os.fsync(descriptor)
