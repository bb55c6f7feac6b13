"""What every test can ask for: programs, the platform's documents, and the law that CI skips nothing.

Here belong hooks and fixtures of the whole suite. Not here: fixtures of one folder, which live in its own conftest.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from hypothesis import settings

import broker

ROOT = Path(__file__).resolve().parent.parent
IN_CI = os.environ.get("CI") == "true"
# Daemons live where a plain user's PATH does not look.
SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])

# Shared machines make any deadline flicker; pytest's timeout still ends what hangs.
settings.register_profile(
    "default", deadline=None, max_examples=40 if os.environ.get("IOT_BROKER_BUILD") == "sanitize" else 100
)
settings.register_profile("long", deadline=None, max_examples=5_000)
NO_DOCUMENTS = "the platform's documents are not in ../shared/platform"
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to test the checkout: it has no compiled modules, and it is not what a user gets.

    ``BROKER_TEST_CHECKOUT=1`` allows it, for quick work on a module that needs no compiler; never in CI.
    """
    imported = Path(broker.__file__).resolve()
    allowed = os.environ.get("BROKER_TEST_CHECKOUT") == "1" and not IN_CI
    if imported.is_relative_to(ROOT / "broker") and not allowed:
        pytest.exit(f"tests import the installed package, not {imported}; see CONTRIBUTING.md", returncode=4)


def debian_packages() -> dict[str, str]:
    """The Debian package of each program that tests run, as ``make test`` installs it in CI."""
    lines = (ROOT / "scripts" / "programs.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split() for line in lines if line and not line.startswith("#"))


def find_program(name: str) -> str:
    """Path of a program, or skip the test with a hint how to get it."""
    path = shutil.which(name, path=SEARCH_PATH)
    if path is None:
        pytest.skip(f"{name} is missing: sudo apt-get install {debian_packages().get(name, name)}")
    return path


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test marked ``needs(program, ...)`` where one of them is missing."""
    for marker in item.iter_markers("needs"):
        for name in marker.args:
            find_program(name)


def forbid_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip into a failure: in CI everything a test needs is there, so a skip hides something.

    The platform's documents alone may be absent: they are not ours, and a public clone has nothing beside it.
    """
    if report.outcome == "skipped" and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if NO_DOCUMENTS in reason:
            return
        report.outcome = "failed"
        report.longrepr = f"in CI nothing may be skipped: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Look at each test's report before anyone else does."""
    report = yield
    if IN_CI:
        forbid_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Look at each module's report: a module may skip itself as a whole."""
    report = yield
    if IN_CI:
        forbid_skip(report)
    return report


@pytest.fixture
def program() -> Callable[[str], str]:
    """Give the path of a program by its name; the test is skipped with a hint where it is missing."""
    return find_program


@pytest.fixture(scope="session")
def platform_documents() -> Path:
    """Folder of the platform's documents, which stand beside the checkout and are no part of it."""
    folder = ROOT.parent / "shared" / "platform"
    if not folder.is_dir():
        pytest.skip(NO_DOCUMENTS)
    return folder


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """Folder for ``NODE_PATH`` that holds mqtt.js."""
    folder = ROOT / "build" / "node" / "node_modules"
    if not (folder / "mqtt").is_dir():
        pytest.skip("mqtt.js is missing: make node")
    return folder
