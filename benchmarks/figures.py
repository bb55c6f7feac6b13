"""What a running broker of ours says about itself: how long its turns hold the loop, from ``/metrics``.

Belongs here: reading figures and the difference of two readings. Not here: when they are read.
"""

from __future__ import annotations

import math
import urllib.error
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

HOLD = "iot_broker_loop_hold_seconds"
WANTED_S = 0.005
Figures = dict[float, float]
"""Rounds by the longest that they may have held the loop, in seconds, each including all shorter ones."""


def read(http_port: int) -> Figures:
    """Ask a broker; empty for one that does not tell."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{http_port}/metrics", timeout=10) as answer:
            return parse(answer.read().decode())
    except urllib.error.HTTPError as error:
        error.close()
        return {}


def parse(text: str) -> Figures:
    """Take the histogram out of the text format."""
    return {
        float(sample.labels["le"]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == f"{HOLD}_bucket"
    }


def hold_of(before: Figures, after: Figures) -> dict[str, float]:
    """Fields of a report: rounds between two readings, those over 5 ms, and the bound that the longest kept."""
    if not before or not after:
        return {}
    grown = {bound: count - before[bound] for bound, count in after.items()}
    rounds = grown[math.inf]
    return {
        "rounds": rounds,
        "rounds_over_5_ms": rounds - grown[WANTED_S],
        "longest_hold_at_most_ms": 1000 * min(bound for bound, count in grown.items() if count == rounds),
    }
