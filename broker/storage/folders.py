"""Folders whose names outlive a power cut: a file that is synced is still lost while the folder that names it is not.

Here belongs making and syncing folders. Not here: what lies in them.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path


def make_folder(path: Path) -> None:
    """Make a folder (0700) with those above it, each durable before the next; what is there already is synced as well.

    A process that was killed after making a folder, and before syncing its name, has left that to the next one.
    Raises ``OSError``.
    """
    missing = []
    there = path.absolute()
    while not there.is_dir():
        missing.append(there)
        there = there.parent
    sync_name(there)
    for folder in reversed(missing):
        folder.mkdir(mode=0o700, exist_ok=True)
        sync_name(folder)


def sync_name(path: Path) -> None:
    """Make durable that a file or folder has its name, as far as the folder above lets us."""
    try:
        sync_folder(path.parent)
    except PermissionError:  # it belongs to somebody else, who has made it long ago
        return


def sync_folder(path: Path) -> None:
    """Make a folder's names durable, where its filesystem knows how. Raises ``OSError``."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # FUSE may not know it
            raise
    finally:
        os.close(descriptor)
