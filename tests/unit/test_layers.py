"""The order of the native core and the purity of the engine: what import-linter cannot see.

Here belongs what can be read from the sources about who may use whom. Not here: the seven floors of Python packages,
which ``pyproject.toml`` gives to import-linter.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "broker" / "_core"
ENGINE = ROOT / "broker" / "engine"

# The core from the ground up. A module may cimport those on lines above its own; modules of one line may use each other
# only downwards in the order written, so that there is never a circle.
ORDER = """
    reasons linux libssl
    cursor
    utf8 blake2b
    framing
    properties
    packets
    memory
    arena table names roster tally handle_queue tls_tickets tls tls_object tls_socket proxy_header
    model
    transport
    topic_rules
    aliases
    message
    records
    trie groups
    parked_ring
    topics grants timers retained_records
    durable_table chunks keyed_records journal sealing
    tracking
    promises
    peers events
    retained_tree retained_runs retained restore_retained
    session
    budgets progress
    inbound_qos2 inflight
    queue parking queue_intake
    durable parked fold
    runs
    wills restore_wills
    session_end
    strangers
    connection loading compaction
    merging
    limiter shared
    deliver handover replay
    acks publish
    lifetime
    admission revocation verdicts listing
    connect
    dispatch
    websocket
    telling figures subscribing rounds
    recovery
    restore_sessions restore_chunks restore_flows restore
    shard
    net
    accepting sending handshakes
    reactor
"""
RANK = {module: rank for rank, module in enumerate(ORDER.split())}
# Opens the core's inside to tests: above everything, and used by nothing.
PROBE = "_probe"
PARENTHESES = re.compile(r"(\bc?import\s*)\(([^)]*)\)")
CIMPORT = re.compile(r"^\s*(?:from\s+(?P<source>[\w.]+)\s+cimport\s+(?P<names>[^#]*)|cimport\s+(?P<modules>[^#]*))")
IMPORT = re.compile(
    r"^\s*(?:from\s+(?P<source>(?:broker|api)\b[\w.]*)\s+import\s+(?P<names>.*)"
    r"|import\s+(?P<module>(?:broker|api)\b[\w.]*))",
    re.MULTILINE,
)
GROUND_FLOOR = {"broker.config", "broker.errors", "broker.ports", "broker.reasons", "broker.wire"}
FORBIDDEN_IN_ENGINE = {
    "asyncio",
    "concurrent",
    "random",
    "secrets",
    "select",
    "selectors",
    "socket",
    "threading",
    "time",
}


def unfolded(text: str) -> str:
    """The source with every import in parentheses on one line, without its comments."""
    plain = re.sub(r"#.*", "", text)
    return PARENTHESES.sub(lambda match: match[1] + " ".join(match[2].split()).strip(" ,"), plain)


def cimported(text: str) -> Iterator[str]:
    """Modules of the core that a Cython source names in its cimport lines."""
    for line in unfolded(text).splitlines():
        match = CIMPORT.match(line)
        if match is None:
            continue
        source = match["source"]
        names = [name.split(" as ")[0].strip() for name in (match["names"] or match["modules"]).split(",")]
        if source is None:
            yield from (name.removeprefix("broker._core.") for name in names if name.startswith("broker._core."))
        elif source in {"broker._core", "."}:
            yield from filter(None, names)
        elif source.startswith(("broker._core.", ".")):
            yield source.removeprefix("broker._core").removeprefix(".")


def imported(text: str) -> Iterator[str]:
    """Python modules of this project that a source imports at run time."""
    for match in IMPORT.finditer(unfolded(text)):
        if match["source"] in {"broker", "broker._core"}:
            yield from (f"{match['source']}.{name.split(' as ')[0].strip()}" for name in match["names"].split(","))
        else:
            yield match["source"] or match["module"]


def misplaced(module: str, used: str) -> str:
    """Say what is wrong when one module of the core uses another; empty when nothing is."""
    if used == module or (module.endswith(PROBE) and used in RANK):
        return ""
    unknown = [name for name in (module, used) if name not in RANK]
    if unknown:
        return f"{module} cimports {used}: {', '.join(unknown)} has no place in ORDER"
    if RANK[used] > RANK[module]:
        return f"{module} cimports {used}, which is above it"
    return ""


def core_sources() -> list[Path]:
    return sorted(path for path in CORE.glob("*.p*") if path.suffix in {".pyx", ".pxd"})


def engine_sources() -> list[Path]:
    return sorted(ENGINE.rglob("*.py"))


def impurities(source: str) -> list[str]:
    """What an engine module does that it must not: wait, or reach for a clock, chance, a thread or a socket."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.AsyncFunctionDef | ast.AsyncFor | ast.AsyncWith | ast.Await):
            found.append(f"line {node.lineno}: the engine never waits")
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        for name in names:
            if name.split(".")[0] in FORBIDDEN_IN_ENGINE:
                found.append(f"line {node.lineno}: imports {name}")
    return found


@pytest.mark.parametrize("path", core_sources(), ids=lambda path: path.name)
def test_core_module_cimports_only_modules_below_it(path: Path) -> None:
    complaints = [misplaced(path.stem, used) for used in cimported(path.read_text(encoding="utf-8"))]
    assert not list(filter(None, complaints))


@pytest.mark.parametrize("path", core_sources(), ids=lambda path: path.name)
def test_core_is_joined_by_cimport_and_never_by_include(path: Path) -> None:
    assert not re.search(r"^\s*include\s+[\"']", path.read_text(encoding="utf-8"), re.MULTILINE)


def test_core_uses_the_ground_floor_alone_when_it_imports_python() -> None:
    for path in core_sources():
        modules = {module for module in imported(path.read_text(encoding="utf-8")) if module not in GROUND_FLOOR}
        assert [module for module in modules if not module.startswith("broker._core.")] == [], path.name


def test_nothing_outside_the_core_cimports_it() -> None:
    outside = [
        path for path in (ROOT / "broker").rglob("*.p*") if path.suffix in {".pyx", ".pxd"} and path.parent != CORE
    ]
    outside += [path for path in (ROOT / "api").rglob("*.p*") if path.suffix in {".pyx", ".pxd"}]
    for path in outside:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"^\s*(?:from\s+(?:broker|\.)[\w.]*\s+cimport|cimport\s+broker)", text, re.MULTILINE), (
            path.name
        )
    assert [path.name for path in outside if path.suffix == ".pxd"] == []


def test_engine_waits_for_nothing_and_takes_time_and_chance_as_arguments() -> None:
    found = {path.name: impurities(path.read_text(encoding="utf-8")) for path in engine_sources()}
    assert {name: complaints for name, complaints in found.items() if complaints} == {}


@pytest.mark.parametrize(
    ("line", "modules"),
    [
        ("from broker._core.cursor cimport Reader, read_u8", ["cursor"]),
        ("from broker._core.model cimport (  # structs\n    Session,\n    Shard,\n)", ["model"]),
        ("from broker._core cimport (\n    framing,\n    utf8,\n)", ["framing", "utf8"]),
        ("    from broker._core.model cimport Session", ["model"]),
        ("from broker._core cimport framing, packets as p", ["framing", "packets"]),
        ("from . cimport utf8", ["utf8"]),
        ("from .utf8 cimport is_valid", ["utf8"]),
        ("cimport broker._core.topics as topics", ["topics"]),
        ("from libc.string cimport memcpy", []),
        ("cimport cython", []),
        ("# from broker._core.shard cimport Shard", []),
    ],
)
def test_every_spelling_of_a_cimport_is_seen(line: str, modules: list[str]) -> None:
    assert list(cimported(line)) == modules


@pytest.mark.parametrize(
    ("line", "modules"),
    [
        ("from broker.reasons import ReasonCode", ["broker.reasons"]),
        ("from broker import wire as w, errors", ["broker.wire", "broker.errors"]),
        ("    from broker.engine.session import (\n        Life,\n    )", ["broker.engine.session"]),
        ("import api.app", ["api.app"]),
        ("from broker._core.model cimport Session", []),
    ],
)
def test_every_spelling_of_an_import_is_seen(line: str, modules: list[str]) -> None:
    assert list(imported(line)) == modules


@pytest.mark.parametrize(
    ("module", "used", "allowed"),
    [
        ("framing", "cursor", True),
        ("framing", "framing", True),
        ("cursor", "framing", False),
        ("model", "shard", False),
        ("framing_probe", "shard", True),
        ("framing", "framing_probe", False),
        ("framing", "unlisted", False),
        ("unlisted", "cursor", False),
    ],
)
def test_a_cimport_upwards_or_of_an_unlisted_module_is_refused(module: str, used: str, allowed: bool) -> None:
    assert (misplaced(module, used) == "") is allowed


@pytest.mark.parametrize(
    "source",
    [
        "import time",
        "from time import monotonic",
        "import os, random",
        "from secrets import token_hex",
        "import asyncio.events",
        "async def wait(): pass",
        "async def f():\n    await g()",
    ],
)
def test_an_impure_engine_module_is_refused(source: str) -> None:
    assert impurities(source)


def test_a_pure_engine_module_is_accepted() -> None:
    assert impurities("from broker.reasons import ReasonCode\n\ndef keep(now: float) -> float:\n    return now\n") == []


# A cdef at the left margin that is neither a function nor the head of a block declares a global. What is written once,
# at import, is a constant and has a constant's name.
GLOBAL = re.compile(
    r"^cdef\s+(?!class\b|enum\b|struct\b|union\b|extern\b|inline\b|packed\b|public\b)[^(:=\n]*?(\w+)\s*(?:=.*)?$",
    re.MULTILINE,
)


def variables(text: str) -> list[str]:
    """Names of a source's globals that are not constants."""
    return [name for name in GLOBAL.findall(text) if not name.isupper()]


@pytest.mark.parametrize("source", sorted((ROOT / "broker" / "_core").glob("*.pyx")), ids=lambda path: path.stem)
def test_the_core_has_no_globals_so_that_shards_share_nothing(source: Path) -> None:
    assert variables(unfolded(source.read_text())) == []


def test_a_global_would_be_found() -> None:
    text = "cdef uint8_t[65536] buffer\n\ncdef int f(\n    int a) nogil:\n    cdef int b\n\ncdef int N = 1\n"
    text += "cdef int m = 1\n"
    assert variables(text) == ["buffer", "m"]
