"""Make the sample of one format: once, when the format is done; a sample that is there is never made again.

    python -P -m tests.samples.make FORMAT

A format of the past is made by the code of its time, out of the repository's history; the present one by this code.
Not here: what goes into a sample (``write_formatN``).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import lmdb

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
MAP_SIZE_BYTES = 16 * 1024 * 1024
REVISIONS = {0: "d524a08"}
"""The last revision that wrote a format; a format that is not here is that of the code beside this file."""
KEPT = ("secret", "expected.json")


def make(number: int) -> Path:
    """Make one sample; returns its folder. Raises ``FileExistsError`` where there is one."""
    target = HERE / f"format{number}"
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "data")
        environment = dict(os.environ)
        if number in REVISIONS:
            environment["PYTHONPATH"] = str(checkout(REVISIONS[number], Path(temporary, "code")))
        script = HERE / f"write_format{number}.py"
        subprocess.run([sys.executable, "-P", str(script), str(folder)], env=environment, check=True)
        (target / "store").mkdir(parents=True)
        for name in KEPT:
            shutil.copyfile(folder / name, target / name)
        compact(folder / "store", target / "store")
    return target


def checkout(revision: str, folder: Path) -> Path:
    """Put the Python code of a revision into a folder."""
    folder.mkdir()
    archive = subprocess.run(["git", "archive", revision, "broker", "api"], cwd=ROOT, check=True, capture_output=True)
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    return folder


def compact(source: Path, target: Path) -> None:
    """Copy a store without its free pages and its lock file."""
    environment = lmdb.open(str(source), map_size=MAP_SIZE_BYTES, readonly=True, lock=False)
    environment.copy(str(target), compact=True)
    environment.close()


if __name__ == "__main__":
    make(int(sys.argv[1]))
