"""Backups: a copy of the store with its secret and configuration, made whole or not at all, and the way back.

Here belong the folder's shape, its manifest, and both directions. Not here: who may ask (``broker.admin``,
``broker.cli``). A backup is a folder:

    manifest.json       its version, when and of what it was made, and size and SHA-256 of every other file
    store/data.mdb      the store as one commit has left it, without free pages
    secret              the key without which no credential in the store can be checked: keep the folder as safe as it
    tls/                the broker's own certificates, where it has made any: clients trust this authority
    configuration.json  the configuration in effect, for people: ``restore`` leaves configuration alone
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lmdb

from broker.errors import StoreError
from broker.storage.data_dir import SECRET_BYTES, DataDir
from broker.storage.datafile import DATA_FILE
from broker.storage.folders import sync_folder
from broker.storage.pages import examine
from broker.storage.rescue import RESTORE_READY, UNFINISHED_RESTORE, finish_moves, look, refusal, stored_format
from broker.storage.tables import FORMAT

MANIFEST = "manifest.json"
MANIFEST_VERSION = 2  # 1 knew no certificates
STORE_FILE = f"store/{DATA_FILE}"
SECRET_FILE = "secret"  # noqa: S105 - its name
CONFIGURATION_FILE = "configuration.json"
TLS = "tls"
TLS_FILES = {f"{TLS}/ca.pem": 0o644, f"{TLS}/ca.key": 0o600, f"{TLS}/server.pem": 0o600}
"""The broker's own certificates, and the modes of their files in a data directory."""
BLOCK_BYTES = 1024 * 1024


def refuse_taken(destination: Path) -> None:
    """Raise ``StoreError`` when a backup must not be put there."""
    if destination.is_dir():
        if any(destination.iterdir()):
            raise StoreError(f"{destination} is not empty: a backup goes into a folder of its own")
        if destination.is_mount():  # it would be gathered on another disk, and cannot be replaced
            raise StoreError(f"{destination} is where a disk is mounted: name a new folder in it")
    elif destination.exists() or destination.is_symlink():
        raise StoreError(f"{destination} is no folder")
    elif not destination.parent.is_dir():
        raise StoreError(f"there is no folder {destination.parent}")


def begin(destination: Path) -> Path:
    """Make the folder, beside the destination, in which a backup is gathered; what dead ones have left is removed."""
    refuse_taken(destination)
    prefix = f".{destination.name}.unfinished-"
    gathering = destination.parent / f"{prefix}{os.getpid()}"
    for old in destination.parent.glob(f"{glob.escape(prefix)}*"):
        if old == gathering or not Path("/proc", old.name.removeprefix(prefix)).exists():
            shutil.rmtree(old, ignore_errors=True)
    gathering.mkdir(mode=0o700)
    (gathering / "store").mkdir(mode=0o700)
    return gathering


def copy_store(store: Path, folder: Path) -> None:
    """Copy a store that nobody has open, compacted, into an existing folder. Raises ``StoreError``, also for damage."""
    data_file = store / DATA_FILE
    if not data_file.exists():
        raise StoreError(f"there is no store in {store}")
    if findings := look(data_file):
        raise StoreError(refusal(store, findings))
    try:
        with lmdb.open(str(store), readonly=True, lock=False, max_dbs=1) as environment:
            environment.copy(str(folder), compact=True)
    except lmdb.Error as error:
        raise StoreError(f"the store in {store} could not be copied: {error}") from error


def copy_certificates(data_dir: Path, gathering: Path) -> None:
    """Copy the broker's own certificates, those that there are, into a backup's folder. Raises ``StoreError``."""
    try:
        for name in TLS_FILES:
            if (data_dir / name).exists():
                (gathering / TLS).mkdir(mode=0o700, exist_ok=True)
                _write(gathering / name, (data_dir / name).read_bytes())
    except OSError as error:
        raise StoreError(f"the certificates in {data_dir / TLS} could not be copied: {error.strerror}") from error


def finish(gathering: Path, destination: Path, secret: bytes, configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Add to a copied store what else a backup has, and let it appear; gives the manifest. Raises ``StoreError``."""
    if findings := look(gathering / STORE_FILE, run_seconds=0):
        raise StoreError(f"the copy is damaged: {findings[0]}")
    _write(gathering / SECRET_FILE, secret)
    _write(gathering / CONFIGURATION_FILE, (json.dumps(configuration, indent=2) + "\n").encode())
    manifest = _manifest(gathering)
    _write(gathering / MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())
    (gathering / STORE_FILE).chmod(0o600)
    for file in (STORE_FILE, "store", TLS, "."):
        if (gathering / file).exists():
            _sync(gathering / file)
    refuse_taken(destination)
    gathering.rename(destination)
    sync_folder(destination.parent)
    return manifest


def _manifest(gathering: Path) -> dict[str, Any]:
    report = examine(gathering / STORE_FILE)
    files = [STORE_FILE, SECRET_FILE, CONFIGURATION_FILE, *(name for name in TLS_FILES if (gathering / name).exists())]
    return {
        "backup": MANIFEST_VERSION,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "broker_version": version("iot-broker"),
        "store_format": stored_format(gathering / STORE_FILE) or 0,
        "entries": {table: figures.entries for table, figures in report.tables.items()},
        "files": {name: _fingerprint(gathering / name) for name in files},
    }


# ---------------------------------------------------------------- the way back


def verify_backup(backup: Path) -> dict[str, Any]:
    """Check a backup against its manifest, and its store's pages; gives the manifest. Raises ``StoreError``."""
    manifest = _read_manifest(backup)
    for name, told in manifest["files"].items():
        try:
            found = _fingerprint(backup / name)
        except OSError as error:
            raise StoreError(f"the backup in {backup} cannot be read: {name}: {error.strerror}") from error
        if found != told:
            raise StoreError(f"the backup in {backup} is damaged: {name} is not what was backed up")
    if findings := look(backup / STORE_FILE, run_seconds=0):
        raise StoreError(f"the backup in {backup} is damaged: {findings[0]}")
    return manifest


def _read_manifest(backup: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((backup / MANIFEST).read_text(encoding="utf-8"))
    except OSError as error:
        raise StoreError(f"{backup} is no backup: {MANIFEST}: {error.strerror}") from error
    except ValueError as error:
        raise StoreError(f"{backup} is no backup: {MANIFEST} is no JSON") from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("backup"), int):
        raise StoreError(f"{backup} is no backup: {MANIFEST} is of something else")
    if manifest["backup"] > MANIFEST_VERSION or manifest.get("store_format", 0) > FORMAT:
        raise StoreError(f"the backup in {backup} was made by a newer version of the broker")
    files = manifest.get("files")
    if not isinstance(files, dict) or not {STORE_FILE, SECRET_FILE} <= set(files):
        raise StoreError(f"the backup in {backup} is damaged: its manifest names no store or no secret")
    if not set(files) <= {STORE_FILE, SECRET_FILE, CONFIGURATION_FILE, *TLS_FILES}:
        raise StoreError(f"the backup in {backup} is damaged: its manifest names files that no backup has")
    return manifest


def restore(backup: Path, data_dir: Path, *, force: bool = False, set_aside: Callable[[Path], None]) -> dict[str, Any]:
    """Put a backup into a data directory in which no broker runs; gives the manifest.

    With ``force`` what is there is moved aside, into a folder of which ``set_aside`` is told. A crash leaves the
    directory as it was, or the next start finishes the restore. Raises ``DataDirLocked`` and ``StoreError``.
    """
    manifest = verify_backup(backup)
    with DataDir.claim(data_dir):
        finish_moves(data_dir)
        taken = [name for name in ("store", SECRET_FILE, TLS) if (data_dir / name).exists()]
        if taken and not force:
            raise StoreError(f"{data_dir} is not empty: it has a {taken[0]}; --force moves it aside")
        unfinished = data_dir / UNFINISHED_RESTORE
        try:
            _copy_back(backup, unfinished, manifest)
        except OSError as error:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise StoreError(f"the backup could not be copied to {data_dir}: {error.strerror}") from error
        unfinished.rename(data_dir / RESTORE_READY)
        sync_folder(data_dir)
        if (aside := finish_moves(data_dir)) is not None:
            set_aside(aside)
    return manifest


def _copy_back(backup: Path, folder: Path, manifest: Mapping[str, Any]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "store").mkdir(mode=0o700, parents=True)
    folder.chmod(0o700)
    certificates = [name for name in TLS_FILES if name in manifest["files"]]
    for name in (STORE_FILE, SECRET_FILE, *certificates):
        (folder / name).parent.mkdir(mode=0o700, exist_ok=True)
        shutil.copyfile(backup / name, folder / name)
        (folder / name).chmod(TLS_FILES.get(name, 0o600))
        _sync(folder / name)
        if _fingerprint(folder / name) != manifest["files"][name]:
            raise StoreError(f"the backup in {backup} has changed, or could not be read twice alike")
    for made in ("store", *([TLS] if certificates else []), "."):
        _sync(folder / made)


def read_secret(data_dir: Path) -> bytes:
    """Read a data directory's secret. Raises ``StoreError``."""
    try:
        secret = (data_dir / SECRET_FILE).read_bytes()
    except OSError as error:
        raise StoreError(f"{data_dir / SECRET_FILE} cannot be read: {error.strerror}") from error
    if len(secret) != SECRET_BYTES:
        raise StoreError(f"{data_dir / SECRET_FILE} is damaged")
    return secret


# ---------------------------------------------------------------- files


def _fingerprint(path: Path) -> dict[str, Any]:
    digest = hashlib.sha256()
    size = 0
    with path.open("rb") as source:
        while block := source.read(BLOCK_BYTES):
            digest.update(block)
            size += len(block)
    return {"bytes": size, "sha256": digest.hexdigest()}


def _write(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        out.write(content)
        out.flush()
        os.fsync(descriptor)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
