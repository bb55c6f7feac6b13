"""Alarms: each change is told once, to the log and to the observer, and readiness asks for what is wrong now."""

from __future__ import annotations

import pytest

from broker.observability.alarms import Alarms


class Told:
    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []

    def event(self, name: str, **fields: object) -> None:
        self.events.append((name, fields))


def test_each_change_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    told = Told()
    alarms = Alarms(told)
    alarms.set("store", "")
    assert told.events == []
    for _ in range(3):
        alarms.set("store", "No space left on device")
    alarms.set("store", "Input/output error")
    for _ in range(3):
        alarms.set("store", "")
    assert told.events == [
        ("alarm", {"alarm": "store", "reason": "No space left on device"}),
        ("alarm", {"alarm": "store", "reason": "Input/output error"}),
        ("alarm_over", {"alarm": "store"}),
    ]
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 3


def test_what_is_wrong_now_is_named_and_counted() -> None:
    alarms = Alarms(Told())
    assert alarms.reasons() == []
    alarms.set("store", "full")
    alarms.set("journal", "slow")
    assert alarms.reasons() == ["store: full", "journal: slow"]
    assert alarms.figures() == {"now": 2, "raised": 2}
    alarms.set("store", "still full")
    alarms.set("journal", "")
    assert alarms.reasons() == ["store: still full"]
    assert alarms.figures() == {"now": 1, "raised": 2}
