"""The rows of the wire table, read from the ``*.toml`` beside this file.

Here belongs what a row may say and what it stands for. Not here: carrying it out (``conversation``).
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
LISTS = HERE / "lists.toml"
FILES = sorted(path for path in HERE.glob("*.toml") if path != LISTS)

# Small limits, so that one past a limit is a short row. By their names in the configuration.
LIMITS = {
    "maximum_payload_bytes": 1000,
    "server_receive_maximum": 3,
    "filters_per_subscribe_maximum": 4,
    "subscriptions_per_application_session_maximum": 6,
    "client_id_maximum_bytes": 64,
}


@dataclass(frozen=True, slots=True)
class Row:
    """One row for one version."""

    name: str
    file: str
    version: int
    talk: str = ""
    send: str = ""
    expect: str = ""
    close: str = ""
    other: str = ""
    start: str = "connected"
    door: str = "open"
    each: str = ""
    section: str = ""
    clauses: tuple[str, ...] = field(default=())

    def __str__(self) -> str:
        return f"{self.file}-v{self.version}-{self.name}"


def load_rows() -> list[Row]:
    """Every row of every file, once for each of its versions and variants."""
    return [row for path in FILES for row in rows_of(path)]


def rows_of(path: Path) -> Iterator[Row]:
    for one in read(path)["row"]:
        versions, clauses = one.pop("versions", [4, 5]), tuple(one.pop("clauses", ()))
        variants = variants_of(one.pop("each", [""]), one.pop("only", None), one.pop("but", ()))
        name = one.pop("name")
        for version in versions:
            for variant in variants:
                whole = f"{name} ({variant})" if variant else name
                yield Row(name=whole, file=path.stem, version=version, each=variant, clauses=clauses, **one)


def variants_of(each: str | list[str], only: list[str] | None, but: list[str]) -> list[str]:
    """What ``each`` stands for: a list, or the name of one in ``lists.toml``; chosen by their first words."""
    variants: list[str] = read(LISTS)[each] if isinstance(each, str) else each
    first = {one: one.partition(" ")[0] for one in variants}
    assert set(only or ()) | set(but) <= set(first.values()), "chosen what is not there"
    return [one for one in variants if (only is None or first[one] in only) and first[one] not in but]


@cache
def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def read(path: Path) -> dict[str, Any]:
    """A file as it is written."""
    return tomllib.loads(text_of(path))
