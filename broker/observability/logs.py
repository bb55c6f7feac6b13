"""Logs: the standard library's, set up once, as text for people or JSON lines for machines.

Here belong the set-up and the observer that writes events. Not here: what is worth an event. Passwords, keys and
payloads never reach a log; those who log are trusted with that, and tests look.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal, TextIO

PACKAGES = ("broker", "api", "uvicorn")
SOURCES_MAXIMUM = 10_000  # addresses remembered at once

Source = tuple[str, object, object]
TOLD_BY_ALARMS = ("alarm", "alarm_over")  # in the log, as warnings, whoever observes
CAUSES = ("why", "reason_code", "status")  # words of ours and of the TLS library: few, whatever a client sends

_events = logging.getLogger("broker.events")


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, event, the fields of the event, and a traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Render one record."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        line.update(getattr(record, "fields", {}))
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class TextFormatter(logging.Formatter):
    """One line for people: time, level, logger, event, then the fields as ``name=value``."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Render one record; a value with blanks or line ends is quoted, so that no line can be forged."""
        head, *rest = super().format(record).split("\n", 1)
        fields = getattr(record, "fields", {})
        words = [head, *(f"{name}={_quoted(value)}" for name, value in fields.items())]
        return "\n".join([" ".join(words), *rest])


def configure(level: str, form: Literal["text", "json"], stream: TextIO | None = None) -> None:
    """Send the logs of the broker, its API and its HTTP server to a stream (standard error); repeatable."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    for name in PACKAGES:
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level.upper())
        logger.propagate = False
    http = logging.getLogger("uvicorn")
    http.setLevel(logging.ERROR)  # its start and stop are ours to tell, and it warns of each malformed request


class LogObserver:
    """Implements ``ports.Observer``: an event is one line of the log, per address, cause and minute.

    What the same address causes again within the minute, for the same reason (``why``, ``reason_code`` or ``status``),
    is counted, and told with its next line: a flood of refused clients is no flood of lines. ``monotonic`` is its only
    time, in seconds.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._minute = 0
        self._quiet: Counter[Source] = Counter()
        self._told: set[Source] = set()

    def event(self, name: str, **fields: object) -> None:
        """Write one event with its fields, or count it."""
        if not _events.isEnabledFor(logging.INFO) or name in TOLD_BY_ALARMS:
            return
        if "address" in fields and not self._first((name, fields["address"], _cause(fields)), fields):
            return
        _events.info(name, extra={"fields": fields})

    def _first(self, source: Source, fields: dict[str, object]) -> bool:
        minute = int(self._monotonic() // 60)
        if minute != self._minute or len(self._told) >= SOURCES_MAXIMUM:
            self._minute = minute
            self._told.clear()
        if source in self._told:
            self._quiet[source] += 1
            return False
        self._told.add(source)
        if len(self._quiet) > SOURCES_MAXIMUM:
            self._quiet.clear()
        if repeated := self._quiet.pop(source, 0):
            fields["not_told"] = repeated
        return True


def _cause(fields: dict[str, object]) -> object:
    return next((fields[name] for name in CAUSES if name in fields), None)


def _quoted(value: object) -> str:
    text = str(value)
    plain = text.isprintable() and not any(character in text for character in ' "=')
    return text if plain and text else json.dumps(text)
