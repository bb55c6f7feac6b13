"""The gate's own instruments: a gate that cannot fail guards nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.gate import counters, figures
from tests.gate.instructions import core_instructions
from tests.gate.lockstep import publish_packet

PROGRAM = """
import os, socket, sys
a, b = socket.socketpair()
kept = []
for _ in range(int(sys.argv[1])):
    a.send(b"x"); b.recv(1); kept.append(bytearray(5000))
"""


def counts_of(repeats: int, folder: Path, library: Path) -> counters.Counts:
    with counters.counted([sys.executable, "-c", PROGRAM, str(repeats)], folder, library) as (process, counted):
        assert process.wait(20) == 0
        return counted.read()


def test_every_call_of_a_program_is_counted(tmp_path: Path) -> None:
    library = counters.build(tmp_path)
    grown = counts_of(3000, tmp_path, library).since(counts_of(1000, tmp_path, library))
    assert 2000 <= grown.receives <= 2010
    assert 2000 <= grown.sends <= 2010
    assert 4000 <= grown.allocations <= 24_000  # the object and its bytes; a few more for the interpreter


def test_library_compiles_without_a_warning(tmp_path: Path) -> None:
    library = tmp_path / "strict.so"
    command = [
        "gcc",
        "-O2",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-shared",
        "-fPIC",
        "-o",
        str(library),
        str(counters.SOURCE),
        "-ldl",
    ]
    assert subprocess.run(command, check=False).returncode == 0


@pytest.mark.parametrize(("value", "passes"), [(1.0, True), (1.099, True), (1.12, False), (0.2, True)])
def test_ten_percent_more_fails(value: float, passes: bool) -> None:
    assert (figures.excesses({"sends": 1.0}, {"sends": value}) == []) is passes


def test_what_cost_nothing_may_not_begin_to_cost() -> None:
    assert figures.excesses({"allocations": 0.0}, {"allocations": 0.0009}) == []
    assert len(figures.excesses({"allocations": 0.0}, {"allocations": 0.002})) == 1


def test_a_figure_without_a_stored_one_fails() -> None:
    assert "nothing stored" in figures.excesses({}, {"sends": 1.0})[0]


PROFILE = """\
version: 1
ob=(1) /venv/lib/broker/_core/publish.cpython-311-x86_64-linux-gnu.so
fl=(1) publish.c
fn=(1) route
10 100
+2 50
cob=(2) /lib/x86_64-linux-gnu/libc.so.6
cfn=(2) memcpy
calls=7 1
* 70000
* 5
ob=(2)
fn=(2)
1 30
ob=(1)
fn=(3) deliver
- 40
totals: 225
"""


def test_only_instructions_of_the_core_itself_are_summed() -> None:
    assert core_instructions(PROFILE) == 100 + 50 + 5 + 40


def test_packets_of_a_load_have_one_size() -> None:
    assert len({len(publish_packet(f"gate/{i:04}", 1, n)) for i in (0, 999) for n in (1, 100)}) == 1
