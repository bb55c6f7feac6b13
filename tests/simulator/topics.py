"""The topics and filters that runs use, and which filter matches which topic, worked out once.

Shared filters have topics of their own, so that a delivery says by itself which kind of subscription it came from.
"""

from __future__ import annotations

PLAIN = ("a", "a/b", "a/c", "b")
KEPT = ("r/1", "r/2", "r/3")
SHARED = ("s/1", "s/2")
WILLS = ("w/1", "w/2")
TOPICS = PLAIN + KEPT + SHARED
FILTERS = ("a", "a/b", "a/+", "a/#", "+/b", "b", "r/#", "r/1", "w/#", "+/c")
GROUPS = ("$share/g/s/1", "$share/h/s/2")
PROBES = ("r/#", "w/#")


def matches(topic_filter: str, topic: str) -> bool:
    """Section 4.7, without ``$`` topics."""
    wanted, given = topic_filter.split("/"), topic.split("/")
    for i, level in enumerate(wanted):
        if level == "#":
            return True
        if i >= len(given) or level not in ("+", given[i]):
            return False
    return len(wanted) == len(given)


def _topics_of(topic_filter: str) -> frozenset[str]:
    inner = topic_filter.split("/", 2)[2] if topic_filter.startswith("$share/") else topic_filter
    return frozenset(topic for topic in TOPICS + WILLS if matches(inner, topic))


MATCHED: dict[str, frozenset[str]] = {one: _topics_of(one) for one in FILTERS + GROUPS}
"""By filter, the topics that it matches."""
