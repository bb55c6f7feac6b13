"""From the configuration to the store: which files each listener's certificate is in, and what is wrong with them.

Not here: how they are read (``material``), and the broker's own (``own``).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from broker.config import BrokerConfig
from broker.doors import CertificateFiles
from broker.errors import StoreError
from broker.net.certificates.material import MaterialFiles, judge_files_of_clients, load
from broker.net.certificates.own import OwnCertificates, server_names
from broker.net.certificates.store import CertificateStore
from broker.observability.alarms import Alarms

HTTPS = "https"


def open_certificates(
    config: BrokerConfig, folder: Path, alarms: Alarms, *, wall_s: Callable[[], int]
) -> CertificateStore:
    """Open the store for all that is encrypted; the broker's own certificates are in ``folder``, made if need be.

    Raises ``CertificateError`` for files that cannot be used, ``StoreError`` where the broker's own cannot be made.
    """
    own = OwnCertificates(folder, server_names(config.public_host, _hosts(config)))
    files = files_of(config, own)
    needed = any(own.files.certificate == one.certificate for one in files.values())
    try:
        return CertificateStore(files, alarms, wall_s=wall_s, own=own if needed else None)
    except OSError as error:
        raise StoreError(f"no certificate could be made in {folder}: {error.strerror or error}") from error


def files_of(config: BrokerConfig, own: OwnCertificates) -> dict[str, MaterialFiles]:
    """Give the files of each encrypted listener, by its name."""
    files = {
        listener.name: _files(listener, own, listener.client_ca_file, listener.crl_file)
        for listener in config.listeners
        if listener.is_encrypted
    }
    return files | ({HTTPS: _files(config.https, own)} if config.https.enabled else {})


def judge_configured(config: BrokerConfig, now: datetime) -> list[str]:
    """Read every file that the configuration names, and tell what is doubtful in them, as alarms do.

    The broker's own certificates are neither made nor looked at. Raises ``CertificateError``.
    """
    doubts = []
    for listener in config.listeners:
        if listener.is_encrypted:
            doubts += _doubts(listener.name, listener, now, listener.client_ca_file, listener.crl_file)
    return doubts + (_doubts(HTTPS, config.https, now) if config.https.enabled else [])


def _doubts(
    name: str, table: CertificateFiles, now: datetime, client_ca: Path | None = None, crl: Path | None = None
) -> list[str]:
    if table.certificate_file is None or table.private_key_file is None:
        judge_files_of_clients(client_ca, crl)
        return []
    material = load(MaterialFiles(table.certificate_file, table.private_key_file, client_ca, crl))
    return [f"{name}: {doubt}" for doubt in material.doubts(now)]


def _files(
    table: CertificateFiles, own: OwnCertificates, client_ca: Path | None = None, crl: Path | None = None
) -> MaterialFiles:
    if table.certificate_file is None or table.private_key_file is None:
        return MaterialFiles(own.files.certificate, own.files.private_key, client_ca, crl)
    return MaterialFiles(table.certificate_file, table.private_key_file, client_ca, crl)


def _hosts(config: BrokerConfig) -> list[str]:
    return [*(listener.host for listener in config.listeners), config.https.host]
