"""Logs: the standard library's, set up once, as text for people or JSON lines for machines.

Here belong the set-up and the observer that writes events. Not here: what is worth an event. Passwords, keys and
payloads never reach a log; those who log are trusted with that, and tests look.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Literal, TextIO

PACKAGES = ("broker", "api", "uvicorn")

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
    http.setLevel(max(http.level, logging.WARNING))  # its start and stop are ours to tell


class LogObserver:
    """Implements ``ports.Observer``: every event is one line of the log."""

    def event(self, name: str, **fields: object) -> None:
        """Write one event with its fields."""
        if _events.isEnabledFor(logging.INFO):
            _events.info(name, extra={"fields": fields})


def _quoted(value: object) -> str:
    text = str(value)
    plain = text.isprintable() and not any(character in text for character in ' "=')
    return text if plain and text else json.dumps(text)
