"""Which path a request means: as Starlette's router finds it, by which the table was written."""

from __future__ import annotations

import itertools

import pytest
from starlette.routing import compile_path

from api.router import Paths
from api.table import ROUTES

TABLE = tuple(dict.fromkeys(row.path for row in ROUTES))
FIRST = {path: compile_path(path)[0] for path in TABLE}
LITERALS = {part for path in TABLE for part in path.split("/") if not part.startswith("{")}


def by_starlette(path: str) -> tuple[str, dict[str, str]] | None:
    for one, pattern in FIRST.items():
        if found := pattern.match(path):
            return one, found.groupdict()
    return None


@pytest.mark.parametrize("path", TABLE)
def test_every_path_of_the_table_is_found_with_whatever_a_request_has_in_its_open_parts(path: str) -> None:
    paths = Paths({one: one for one in TABLE})
    parts = path.split("/")
    open_parts = [place for place, part in enumerate(parts) if part.startswith("{")]
    for values in itertools.product(["", "a", "{device_id}", "%2F", " ", *sorted(LITERALS)], repeat=len(open_parts)):
        for place, value in zip(open_parts, values, strict=True):
            parts[place] = value
        for whole in ("/".join(parts), "/".join([*parts, ""]), "/".join(parts[1:]), "/".join([*parts, "x"])):
            assert paths.find(whole) == by_starlette(whole)


@pytest.mark.parametrize(
    "path", ["", "/", "//", "v1", "/v1/iot/devices/a/commands/", "/healthz\n", "/v1/iot/devices//"]
)
def test_what_is_no_path_of_the_table_is_not_found(path: str) -> None:
    assert Paths({one: one for one in TABLE}).find(path) is None
