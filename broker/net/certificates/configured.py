"""From the configuration to the store: which files each listener's certificate is in.

Not here: reading them (``material``), and the broker's own (``own``).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from broker.config import BrokerConfig
from broker.doors import CertificateFiles
from broker.errors import StoreError
from broker.net.certificates.material import MaterialFiles
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


def _files(
    table: CertificateFiles, own: OwnCertificates, client_ca: Path | None = None, crl: Path | None = None
) -> MaterialFiles:
    if table.certificate_file is None or table.private_key_file is None:
        return MaterialFiles(own.files.certificate, own.files.private_key, client_ca, crl)
    return MaterialFiles(table.certificate_file, table.private_key_file, client_ca, crl)


def _hosts(config: BrokerConfig) -> list[str]:
    return [*(listener.host for listener in config.listeners), config.https.host]
