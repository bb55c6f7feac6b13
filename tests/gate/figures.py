"""The stored figures, and what may be added to them.

Belongs here: the file, the comparison, the words of a failure. Not here: any measurement.
"""

from __future__ import annotations

import json
from pathlib import Path

PATH = Path(__file__).with_name("figures.json")
MARGIN = 0.10
SLACK = 0.001
"""Calls per message that are always forgiven: one in a thousand messages is a timer, not a regression."""

Figures = dict[str, dict[str, float]]
UPDATE = "python -m tests.gate --update, with the reason in the commit message"


def load() -> dict[str, Figures]:
    """Figures by key ("calls", or a compiler's key), then by load, then by name."""
    stored: dict[str, Figures] = json.loads(PATH.read_text()) if PATH.exists() else {}
    return stored


def store(key: str, figures: Figures) -> None:
    """Replace what is stored under one key."""
    rounded = {name: {what: round(value, 4) for what, value in row.items()} for name, row in figures.items()}
    PATH.write_text(json.dumps(load() | {key: rounded}, indent=2, sort_keys=True) + "\n")


def limit(stored: float, *, slack: float = SLACK) -> float:
    """The most that passes."""
    return stored * (1 + MARGIN) + slack


def excesses(stored: dict[str, float], measured: dict[str, float], *, slack: float = SLACK) -> list[str]:
    """One line for each figure over its limit, or without a stored one."""
    lines = []
    for name, value in measured.items():
        if name not in stored:
            lines.append(f"{name}: {value:.4f} a message, nothing stored; {UPDATE}")
        elif value > limit(stored[name], slack=slack):
            share = f"{value / stored[name] - 1:+.0%}" if stored[name] else "from nothing"
            lines.append(f"{name}: {value:.4f} a message against {stored[name]:.4f} ({share}); if meant: {UPDATE}")
    return lines
