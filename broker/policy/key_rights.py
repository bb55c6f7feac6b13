"""What an API key may do: its scopes, and the topics to which it is bound.

Here belong their words, their rules and the policy that follows from them. Not here: keys (``broker.accounts``), which
route needs which scope (``api``), and the matching of topics, which the core does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from broker.errors import BadRequest
from broker.policy.policies import APPLICATION, NOBODY_IS_PRESENT
from broker.ports import Policy

DEVICES_READ = "devices:read"
DEVICES_WRITE = "devices:write"
PUBLISH = "publish"
SUBSCRIBE = "subscribe"
USAGE_READ = "usage:read"
SCOPES = (DEVICES_READ, DEVICES_WRITE, PUBLISH, SUBSCRIBE, USAGE_READ)

PATTERNS_MAXIMUM = 32
PATTERN_MAXIMUM_CHARACTERS = 256

REMEMBERED_RIGHTS = 4096

ANY_DEVICE = "{device_id}"

SCOPES_EXPECTED = f"one or more of {', '.join(SCOPES)}"
PATTERN_EXPECTED = (
    f"a topic filter of 1 to {PATTERN_MAXIMUM_CHARACTERS} characters, in which {ANY_DEVICE} may stand for a level; no "
    "`!` at its beginning, no control characters, and of topics with `$` those below $SYS alone"
)

_UNTYPABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class KeyRights:
    """Scopes in the order of ``SCOPES``, and topic patterns in alphabetical order; no pattern at all is every topic.

    Two that allow the same by the same words are equal. ``{device_id}`` stands for the id of any device: a key has
    no id of its own.
    """

    scopes: tuple[str, ...] = SCOPES
    patterns: tuple[str, ...] = ()

    @property
    def may_connect(self) -> bool:
        """Whether there is anything that such a key may do over MQTT."""
        return PUBLISH in self.scopes or SUBSCRIBE in self.scopes

    def policy(self) -> Policy:
        """Give what it may do over MQTT, as the core takes it."""
        topics = tuple(_for_any_device(one) for one in self.patterns)
        publish = (NOBODY_IS_PRESENT, *topics) if topics else APPLICATION.publish
        subscribe = topics or APPLICATION.subscribe
        return Policy(
            APPLICATION.name,
            publish if PUBLISH in self.scopes else (),
            subscribe if SUBSCRIBE in self.scopes else (),
        )

    def stored(self) -> tuple[str, str]:
        """Give scopes and patterns as text for a record; empty for all."""
        return "" if self.scopes == SCOPES else " ".join(self.scopes), "\n".join(self.patterns)

    @staticmethod
    @lru_cache(maxsize=REMEMBERED_RIGHTS)  # asked with each request
    def of_record(scopes: str, patterns: str) -> KeyRights:
        """Read what ``stored`` gave. Raises ``ValueError`` for anything else."""
        try:
            rights = checked_rights(scopes.split(" ") if scopes else None, patterns.split("\n") if patterns else ())
        except BadRequest as error:
            raise ValueError(str(error)) from error
        if rights.stored() != (scopes, patterns):
            raise ValueError("rights of a key that nobody has written so")
        return rights


EVERYTHING = KeyRights()


def checked_rights(scopes: Iterable[str] | None, patterns: Iterable[str] = ()) -> KeyRights:
    """Make rights of what somebody asks for; None is every scope. Raises ``BadRequest``."""
    wanted = SCOPES if scopes is None else tuple(scopes)
    unknown = next((one for one in wanted if one not in SCOPES), None)
    if unknown is not None or not wanted:
        raise BadRequest(
            f"scopes: expected {SCOPES_EXPECTED}", field="scopes", provided=unknown or [], expected=SCOPES_EXPECTED
        )
    return KeyRights(tuple(one for one in SCOPES if one in wanted), checked_patterns(patterns))


def checked_patterns(patterns: Iterable[str]) -> tuple[str, ...]:
    """Give topic patterns in order, each of them once. Raises ``BadRequest`` for one that is none, or too many."""
    wanted = tuple(sorted(set(patterns)))
    if len(wanted) > PATTERNS_MAXIMUM:
        expected = f"at most {PATTERNS_MAXIMUM} patterns"
        raise BadRequest(f"patterns: expected {expected}", field="patterns", provided=len(wanted), expected=expected)
    for one in wanted:
        if not is_pattern(one):
            raise BadRequest(
                f"patterns: expected {PATTERN_EXPECTED}", field="patterns", provided=one, expected=PATTERN_EXPECTED
            )
    return wanted


def is_pattern(text: str) -> bool:
    """Tell whether a text can bind a key: the core would take a leading ``!`` for a refusal."""
    if not 0 < len(text) <= PATTERN_MAXIMUM_CHARACTERS or text[0] == "!" or _UNTYPABLE.search(text):
        return False
    levels = text.split("/")
    if levels[0].startswith("$") and levels[0] != "$SYS":
        return False
    if any(("+" in level or "#" in level) and len(level) > 1 for level in levels) or "#" in levels[:-1]:
        return False
    return all(level == ANY_DEVICE or ANY_DEVICE not in level for level in levels)


def _for_any_device(pattern: str) -> str:
    return "/".join("+" if level == ANY_DEVICE else level for level in pattern.split("/"))
