"""Which of the table's paths a request means: one look for a path that says all, a few comparisons for the others.

Here belongs finding. Not here: what a path does (``app``), and how percent-encoding is read (``paths``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Generic, TypeVar

FoundT = TypeVar("FoundT")

Parts = tuple[str, ...]


class Paths(Generic[FoundT]):
    """What stands behind each path; a part in braces is whatever a request has there, but not nothing.

    Where a request could mean several paths, the one that names more of it from its end is meant.
    """

    def __init__(self, by_path: Mapping[str, FoundT]) -> None:
        self._whole = {path: found for path, found in by_path.items() if "{" not in path}
        self._by_end: defaultdict[tuple[int, str], list[tuple[Parts, FoundT]]] = defaultdict(list)
        for path, found in by_path.items():
            if "{" in path:
                parts = tuple(path.split("/"))
                self._by_end[len(parts), "" if _is_open(parts[-1]) else parts[-1]].append((parts, found))

    def find(self, path: str) -> tuple[FoundT, dict[str, str]] | None:
        """Give what stands behind the path of a request, and what that has in the open parts; None for no such path."""
        found = self._whole.get(path)
        if found is not None:
            return found, {}
        given = path.split("/")
        for end in (given[-1], ""):
            for parts, behind in self._by_end.get((len(given), end), ()):
                values = _values(parts, given)
                if values is not None:
                    return behind, values
        return None


def _is_open(part: str) -> bool:
    return part.startswith("{")


def _values(parts: Parts, given: list[str]) -> dict[str, str] | None:
    values = {}
    for part, one in zip(parts, given, strict=True):
        if _is_open(part):
            if not one:
                return None
            values[part[1:-1]] = one
        elif part != one:
            return None
    return values
