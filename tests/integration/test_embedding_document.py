"""docs/embedding.md at its word: its programs print what stands below them, its tests pass under pytest."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.served import plain_environment

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "embedding.md"
BLOCK = re.compile(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```\n)?", re.DOTALL)


def blocks() -> list[tuple[str, str, str]]:
    """Heading, source and printed output of each example."""
    text = DOCUMENT.read_text(encoding="utf-8")
    found = []
    for match in BLOCK.finditer(text):
        heading = re.findall(r"^#{2,3} (.*)$", text[: match.start()], re.MULTILINE)[-1]
        found.append((heading, match[1], match[2] or ""))
    return found


EXAMPLES = [pytest.param(*block, id=block[0].replace(" ", "-").lower()) for block in blocks()]
PROGRAMS = [one for one in EXAMPLES if "def test_" not in str(one.values[1])]
TESTS = [one for one in EXAMPLES if "def test_" in str(one.values[1])]


def run_python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-X", "dev", "-W", "error", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
        env=plain_environment(),
    )


def test_the_document_has_examples_of_everything() -> None:
    assert len(PROGRAMS) >= 6
    assert len(TESTS) >= 3


@pytest.mark.parametrize(("heading", "source", "output"), PROGRAMS)
def test_a_program_prints_what_the_document_says(tmp_path: Path, heading: str, source: str, output: str) -> None:
    assert output, f"{heading}: a program shows what it prints"
    (tmp_path / "program.py").write_text(source)
    done = run_python(tmp_path, "program.py")
    assert (done.returncode, done.stdout) == (0, output), done.stderr


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("heading", "source", "output"), TESTS)
def test_a_test_of_the_document_passes(tmp_path: Path, heading: str, source: str, output: str) -> None:
    (tmp_path / "test_example.py").write_text(source)
    done = run_python(tmp_path, "-m", "pytest", "-q", "--strict-markers", "test_example.py")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(180)
def test_the_programs_satisfy_a_strict_type_checker(tmp_path: Path) -> None:
    for number, example in enumerate(PROGRAMS):
        (tmp_path / f"program_{number}.py").write_text(str(example.values[1]))
    done = run_python(tmp_path, "-m", "mypy", "--strict", ".")
    assert done.returncode == 0, done.stdout + done.stderr
