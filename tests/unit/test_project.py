"""The project as a whole: what is installed, what is packaged, and the verbs that people and CI share.

Here belongs what concerns no single module. Not here: the order of layers (``test_layers.py``).
"""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import api
import broker
from tests import conftest

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "broker" / "_core"
VERBS = ("install", "format", "check", "test", "bench", "run")
SCRIPTS = sorted(path for path in (ROOT / "scripts").iterdir() if os.access(path, os.X_OK) and path.is_file())


def python_sources() -> list[Path]:
    return sorted(path for package in ("broker", "api") for path in (ROOT / package).rglob("*.py"))


def run_here(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the checkout, with a few variables on top of a plain environment."""
    plain = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(command, cwd=ROOT, env=plain | environment, capture_output=True, text=True, timeout=50)


def test_installed_packages_are_tested_and_not_the_checkout() -> None:
    for package in (broker, api):
        assert package.__file__ is not None
        assert not Path(package.__file__).is_relative_to(ROOT / package.__name__)


@pytest.mark.parametrize("path", sorted(CORE.glob("*.pyx")), ids=lambda path: path.stem)
def test_every_core_module_is_installed_compiled_and_with_its_stub(path: Path) -> None:
    module = importlib.import_module(f"broker._core.{path.stem}")
    assert module.__file__ is not None
    installed = Path(module.__file__)
    assert installed.suffix == ".so"
    assert (installed.parent / f"{path.stem}.pyi").exists(), "every Python-visible name is described in a stub"


@pytest.mark.parametrize("package", [broker, api], ids=lambda package: package.__name__)
def test_types_are_part_of_the_distribution(package: object) -> None:
    assert (Path(str(package.__file__)).parent / "py.typed").exists()  # type: ignore[attr-defined]


def test_nothing_is_installed_whose_source_is_gone() -> None:
    files = importlib.metadata.files("iot-broker") or []
    ours = [Path(str(file)) for file in files if file.parts[0] in {"broker", "api"} and "__pycache__" not in file.parts]
    sources = [path.with_name(path.name.split(".")[0] + ".pyx") if path.suffix == ".so" else path for path in ours]
    assert ours
    assert [str(path) for path in sources if not (ROOT / path).exists()] == []


def test_command_is_called_as_the_distribution() -> None:
    entries = importlib.metadata.distribution("iot-broker").entry_points
    assert {entry.name: entry.value for entry in entries.select(group="console_scripts")} == {
        "iot-broker": "broker.cli:main"
    }


def test_the_pytest_plugin_is_found_by_pytest() -> None:
    entries = importlib.metadata.distribution("iot-broker").entry_points
    assert {entry.name: entry.value for entry in entries.select(group="pytest11")} == {
        "iot_broker": "broker.testing.plugin"
    }


@pytest.mark.parametrize("path", python_sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_opens_with_what_belongs_in_it(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("verb", VERBS)
def test_make_knows_the_verb_and_it_is_one_script(verb: str) -> None:
    planned = run_here("make", "--dry-run", verb)
    assert planned.returncode == 0, planned.stderr
    assert planned.stdout.split()[0] == f"scripts/{verb}"


@pytest.mark.parametrize("path", [*SCRIPTS, ROOT / ".ci" / "run"], ids=lambda path: path.name)
def test_script_is_valid_bash_and_stops_at_the_first_error(path: Path) -> None:
    assert run_here("bash", "-n", str(path)).returncode == 0
    text = path.read_text(encoding="utf-8")
    assert "set -euo pipefail" in text or 'source "$(dirname "$0")/lib.sh"' in text


def test_build_refuses_an_unknown_flavour() -> None:
    answer = run_here(sys.executable, "setup.py", "--version", IOT_BROKER_BUILD="fast")
    assert answer.returncode != 0
    assert "release, debug, sanitize" in answer.stderr


def test_preflight_is_content_with_this_machine() -> None:
    answer = run_here("scripts/preflight", sys.executable)
    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize(
    ("lacking", "package"),
    [("import venv, ensurepip", "python3-venv"), ("Python.h", "python3-dev")],
    ids=["venv", "headers"],
)
def test_preflight_names_the_one_package_that_is_missing(tmp_path: Path, lacking: str, package: str) -> None:
    interpreter = tmp_path / "python3"
    interpreter.write_text(f'#!/bin/sh\ncase "$2" in *"{lacking}"*) exit 1;; esac\nexec {sys.executable} "$@"\n')
    interpreter.chmod(0o755)
    answer = run_here("scripts/preflight", str(interpreter))
    assert answer.returncode == 1
    assert answer.stderr.endswith(f"sudo apt-get install {package}\n")


def test_preflight_names_the_compiler_when_there_is_none() -> None:
    answer = run_here("scripts/preflight", sys.executable, CC="no-such-compiler")
    assert answer.returncode == 1
    assert answer.stderr.endswith("sudo apt-get install gcc\n")


def test_preflight_refuses_an_old_python(tmp_path: Path) -> None:
    interpreter = tmp_path / "python3"
    interpreter.write_text('#!/bin/sh\n[ "$1" = -V ] && echo Python 3.10.4\nexit 1\n')
    interpreter.chmod(0o755)
    answer = run_here("scripts/preflight", str(interpreter))
    assert answer.returncode == 1
    assert "3.11 or later" in answer.stderr
    assert "3.10.4" in answer.stderr


def test_system_packages_are_never_installed_outside_ci(tmp_path: Path) -> None:
    tattler = tmp_path / "apt-get"
    tattler.write_text(f"#!/bin/sh\ntouch {tmp_path}/called\n")
    tattler.chmod(0o755)
    answer = run_here("scripts/system-packages", "gcc", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert answer.returncode == 0
    assert not (tmp_path / "called").exists()


def test_every_program_a_test_may_need_has_a_package() -> None:
    packages = conftest.debian_packages()
    assert packages["mosquitto_pub"] == "mosquitto-clients"
    assert all(packages.values())


def test_supported_pythons_are_named_once_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["requires-python"] == ">=3.11"
    assert project["tool"]["ruff"]["target-version"] == "py311"
    assert project["tool"]["mypy"]["python_version"] == "3.11"


SUITE = """
import pytest

@pytest.mark.needs("no-such-program")
def test_needs_a_program(): pass

def test_asks_for_a_program(program): program("no-such-program")

@pytest.mark.xfail(reason="known")
def test_known_to_fail(): assert False
"""


@pytest.mark.parametrize(("ci", "outcome"), [("", "2 skipped, 1 xfailed"), ("true", "1 failed, 1 xfailed, 1 error")])
def test_missing_program_is_a_skip_with_a_hint_and_in_ci_a_failure(tmp_path: Path, ci: str, outcome: str) -> None:
    suite = tmp_path / "tests"
    suite.mkdir()
    shutil.copy(ROOT / "tests" / "conftest.py", suite)
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (suite / "test_sample.py").write_text(SUITE)
    command = [sys.executable, "-P", "-m", "pytest", "--rootdir", str(tmp_path), str(suite), "-p", "no:cacheprovider"]
    answer = run_here(*command, CI=ci)
    assert outcome in answer.stdout.splitlines()[-1], answer.stdout + answer.stderr
    assert "apt-get install no-such-program" in answer.stdout
