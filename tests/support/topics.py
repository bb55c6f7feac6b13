"""Section 4.7 in the plainest code that can be written: what the core's matching is compared with."""

from __future__ import annotations


def matches(topic_filter: str, name: str) -> bool:
    """Whether a topic filter matches a topic name, both valid."""
    wanted, levels = topic_filter.split("/"), name.split("/")
    if wanted[0] in ("+", "#") and name.startswith("$"):
        return False
    if wanted[-1] == "#":
        wanted.pop()
        levels = levels[: len(wanted)] if len(levels) >= len(wanted) else levels
    return len(wanted) == len(levels) and all(one in ("+", two) for one, two in zip(wanted, levels, strict=True))
