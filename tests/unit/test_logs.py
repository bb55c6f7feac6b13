"""Rules of the logs: one line an event, in either form, and no line that a value could forge."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from broker.observability.alarms import Alarms
from broker.observability.logs import PACKAGES, SOURCES_MAXIMUM, LogObserver, configure


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = {name: (logging.getLogger(name).handlers, logging.getLogger(name).propagate) for name in PACKAGES}
    yield
    for name, (handlers, propagate) in before.items():
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(logging.NOTSET)


def test_json_has_the_event_and_its_fields_in_one_object() -> None:
    out = io.StringIO()
    configure("info", "json", out)
    LogObserver().event("connection_refused", address="192.0.2.1", attempts=3)
    line = json.loads(out.getvalue())
    assert (line["event"], line["address"], line["attempts"]) == ("connection_refused", "192.0.2.1", 3)
    assert (line["level"], line["logger"]) == ("info", "broker.events")
    assert line["time"].endswith("+00:00")


def test_text_has_the_event_and_its_fields_in_one_line() -> None:
    out = io.StringIO()
    configure("info", "text", out)
    LogObserver().event("listener_opened", port=1883, name_="a b", forged="x\n2025 ERROR fake", empty="")
    (line,) = out.getvalue().splitlines()
    assert line.endswith(r'listener_opened port=1883 name_="a b" forged="x\n2025 ERROR fake" empty=""')


def test_below_the_level_nothing_is_written_and_setting_up_again_doubles_nothing() -> None:
    out = io.StringIO()
    configure("warning", "text", out)
    LogObserver().event("quiet")
    assert out.getvalue() == ""
    configure("info", "text", out)
    configure("info", "text", out)
    LogObserver().event("loud")
    assert len(out.getvalue().splitlines()) == 1


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_failure_carries_its_traceback(form: str) -> None:
    out = io.StringIO()
    configure("info", "json" if form == "json" else "text", out)
    try:
        raise RuntimeError("why")
    except RuntimeError:
        logging.getLogger("broker.test").exception("failed")
    assert "RuntimeError: why" in out.getvalue()


def test_the_http_server_tells_neither_its_start_nor_what_strangers_send() -> None:
    out = io.StringIO()
    configure("debug", "text", out)
    logging.getLogger("uvicorn.error").info("Started server process")
    logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
    logging.getLogger("uvicorn.error").error("broken")
    assert [line.split(": ")[-1] for line in out.getvalue().splitlines()] == ["broken"]


def test_one_address_gets_one_line_a_minute_and_the_rest_is_counted() -> None:
    out = io.StringIO()
    configure("info", "json", out)
    now = [0.0]
    observer = LogObserver(lambda: now[0])
    for _ in range(5):
        observer.event("connection_refused", address="192.0.2.1")
    observer.event("connection_refused", address="192.0.2.2")
    observer.event("connection_closed", address="192.0.2.1")
    now[0] = 61.0
    observer.event("connection_refused", address="192.0.2.1")
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [(line["event"], line["address"], line.get("not_told")) for line in lines] == [
        ("connection_refused", "192.0.2.1", None),
        ("connection_refused", "192.0.2.2", None),
        ("connection_closed", "192.0.2.1", None),
        ("connection_refused", "192.0.2.1", 4),
    ]


def test_another_cause_of_the_same_address_is_told_within_the_minute() -> None:
    out = io.StringIO()
    configure("info", "json", out)
    observer = LogObserver(lambda: 0.0)
    for why in ("unknown ca", "unknown ca", "unsupported protocol"):
        observer.event("tls_failed", why=why, address="192.0.2.1", handle=1)
    for status in (404, 403, 404):
        observer.event("upgrade_refused", status=status, address="192.0.2.1", handle=1)
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [line.get("why", line.get("status")) for line in lines] == ["unknown ca", "unsupported protocol", 404, 403]


def test_many_addresses_do_not_fill_the_memory() -> None:
    configure("info", "text", io.StringIO())
    observer = LogObserver(lambda: 0.0)
    for number in range(SOURCES_MAXIMUM * 2):
        observer.event("connection_refused", address=number)
        observer.event("connection_refused", address=number)
    assert len(observer._told) <= SOURCES_MAXIMUM
    assert len(observer._quiet) <= SOURCES_MAXIMUM + 1


def test_an_alarm_is_one_line_a_change() -> None:
    out = io.StringIO()
    configure("info", "json", out)
    alarms = Alarms(LogObserver())
    alarms.set("store", "full")
    alarms.set("store", "")
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [(line["event"], line["level"], line["alarm"]) for line in lines] == [
        ("alarm", "warning", "store"),
        ("alarm over", "warning", "store"),
    ]
