"""``python -m tests.gate [--update]``: prints this installation's figures beside the stored ones, or stores them."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import click

from tests.gate import figures, instructions, runs


def measure(folder: Path) -> dict[str, figures.Figures]:
    """All figures under the keys they are stored by."""
    calls, profile = folder / "calls", folder / "profile"
    calls.mkdir()
    profile.mkdir()
    return {"calls": runs.count_all_calls(calls), instructions.compiler_key(): runs.count_instructions(profile)}


def main() -> None:
    """Measure, print, and store when asked to."""
    parser = argparse.ArgumentParser(prog="python -m tests.gate", description=__doc__)
    parser.add_argument("--update", action="store_true", help="store what is measured")
    update = parser.parse_args().update
    with tempfile.TemporaryDirectory(prefix="iot-broker-gate-") as name:
        measured = measure(Path(name))
    stored = figures.load()
    for key, loads in measured.items():
        for load, row in loads.items():
            for what, value in row.items():
                before = stored.get(key, {}).get(load, {}).get(what)
                click.echo(f"{key:16} {load:10} {what:14} {value:12.4f}   stored {before}")
        if update:
            figures.store(key, loads)


if __name__ == "__main__":
    main()
