"""What a run has come to: a table for people, JSON for machines.

Here belong words and columns. Not here: any judgement.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from tests.crash import ledger
from tests.crash.ledger import Tally

GROUPS = {
    "lost": (ledger.LOST, ledger.RETAINED_WRONG, ledger.WILL_LOST, ledger.DEVICE_LOST),
    "doubled": (ledger.DOUBLED, ledger.WILL_TWICE),
    "reordered": (ledger.REORDERED,),
    "forgotten": (ledger.SESSION_FORGOTTEN,),
    "came back": (ledger.RETAINED_BACK, ledger.SESSION_BACK, ledger.DEVICE_BACK, ledger.GHOST, ledger.WILL_WRONG),
}


def grouped(findings: Counter[str]) -> dict[str, int]:
    """Sums of the table's columns; ``other`` is what no column names."""
    sums = {name: sum(findings[kind] for kind in kinds) for name, kinds in GROUPS.items()}
    return {**sums, "other": findings.total() - sum(sums.values())}


def table(rows: list[dict[str, Any]]) -> str:
    """One row for each target, as Markdown."""
    heads = ["target", "rounds", "kills", "acknowledged", "delivered", "repeated legally", *GROUPS, "other"]
    lines = ["| " + " | ".join(heads) + " |", "|" + "|".join(["---"] + ["---:"] * (len(heads) - 1)) + "|"]
    for row in rows:
        counts, sums = row["counts"], row["sums"]
        cells = [row["target"], row["rounds"], sum(row["kills"].values())]
        cells += [counts.get(one, 0) for one in ("acknowledged", "delivered", "repeated")]
        cells += [sums[one] for one in [*GROUPS, "other"]]
        lines.append("| " + " | ".join(f"{one:,}" if isinstance(one, int) else str(one) for one in cells) + " |")
    return "\n".join(lines)


def details(row: dict[str, Any]) -> str:
    """Kills by phase, other counts, and findings by kind."""
    parts = [f"kills: {_words(row['kills'])}", f"counts: {_words(row['counts'])}"]
    parts.append(f"findings: {_words(row['findings']) or 'none'}")
    parts.append(f"start: median {row['start_median_s']:.2f} s, longest {row['start_longest_s']:.2f} s")
    return "\n".join(parts)


def _words(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()) if count)


def as_row(target: str, rounds: int, tally: Tally, start_s: list[float], seconds: float) -> dict[str, Any]:
    """Everything about one target, ready for JSON."""
    starts = sorted(start_s) or [0.0]
    return {
        "target": target,
        "rounds": rounds,
        "seconds": round(seconds, 1),
        "kills": dict(tally.kills),
        "counts": dict(tally.counts),
        "findings": dict(tally.findings),
        "sums": grouped(tally.findings),
        "start_median_s": round(starts[len(starts) // 2], 3),
        "start_longest_s": round(starts[-1], 3),
    }
