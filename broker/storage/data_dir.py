"""The data directory: its one owner, and the secret under which credentials are hashed.

Here belong the lock, the secret and the names of what else lies there. Not here: the store's records.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from pathlib import Path
from typing import Self

from broker.errors import DataDirLocked, StoreError
from broker.storage.folders import make_folder, sync_folder

SECRET_BYTES = 32


class DataDir:
    """An owned data directory; made with ``claim``, given back with ``release`` (or as a context manager)."""

    def __init__(self, path: Path, lock_fd: int) -> None:
        self.path = path
        self._lock_fd = lock_fd

    @property
    def store_path(self) -> Path:
        """Folder of the LMDB environment."""
        return self.path / "store"

    @classmethod
    def claim(cls, path: Path) -> DataDir:
        """Make the directory if need be (0700) and become its one owner.

        Raises ``DataDirLocked``, with the owner's process id, when somebody is; ``StoreError`` when it cannot be used.
        """
        try:
            make_folder(path)
            lock_fd = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise StoreError(f"the data directory {path} cannot be used: {error.strerror}") from error
        try:
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(lock_fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(lock_fd)
            raise DataDirLocked(f"the data directory {path} is in use by process {owner}") from error
        os.ftruncate(lock_fd, 0)
        with contextlib.suppress(OSError):  # it is for people: a full disk does not keep the broker from starting
            os.pwrite(lock_fd, b"%d\n" % os.getpid(), 0)
        return cls(path, lock_fd)

    def secret(self) -> bytes:
        """Read the installation's hash key, 32 bytes; made on the first start.

        Raises ``StoreError`` when it is damaged, or missing beside a store that was made under it: a new one would
        silently make every credential invalid.
        """
        file = self.path / "secret"
        try:
            secret = file.read_bytes()
        except FileNotFoundError:
            if any(self.path.glob("store*/data.mdb")):
                raise StoreError(f"{file} is missing: without it no stored credential can be checked") from None
            return self._make_secret(file)
        if len(secret) != SECRET_BYTES:
            raise StoreError(f"{file} is damaged: {len(secret)} bytes, not {SECRET_BYTES}")
        sync_folder(self.path)  # who made it may have been killed before doing so
        return secret

    def release(self) -> None:
        """Give the directory back; the lock file stays, empty."""
        if self._lock_fd >= 0:
            os.ftruncate(self._lock_fd, 0)
            os.close(self._lock_fd)
            self._lock_fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()

    def _make_secret(self, file: Path) -> bytes:
        """Write the secret so that after any crash it is there whole, or not at all."""
        secret = secrets.token_bytes(SECRET_BYTES)
        unfinished = file.with_name("secret.new")
        unfinished.unlink(missing_ok=True)
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as out:
            out.write(secret)
            out.flush()
            os.fsync(descriptor)
        unfinished.rename(file)
        sync_folder(self.path)
        return secret
