"""Disks that are full, broken, read-only or slow, under a real store: it says so, keeps its word, and recovers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.disk_scenarios import SCENARIOS
from tests.support.faulty_disk import build, environment


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("faulty-disk"))


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_store_keeps_its_word_on_a_disk_that_fails(name: str, library: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-X", "dev", "-m", "tests.support.disk_scenarios", name, str(tmp_path)],
        env=environment(library, tmp_path / "commands"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
