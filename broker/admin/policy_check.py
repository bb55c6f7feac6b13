"""Would it get through, and which rule decides: the verb behind ``POST /policy/check``.

Here belong who is asked about and the words of an answer. Not here: the rules. The core is asked, by the functions that
decide about every message, with the rights and limits that a CONNECT would be granted at this moment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from broker.accounts.directory import Directory
from broker.errors import NotFound
from broker.ports import Grant
from broker.reasons import ReasonCode
from broker.stories import Verdict

Action = Literal["publish", "subscribe"]


@dataclass(frozen=True, slots=True)
class PolicyQuestion:
    """May this device, or the application of this key's name, do that? ``topic`` is a filter to subscribe to.

    Exactly one of ``device_id`` and ``key_name`` is given.
    """

    action: Action
    topic: str
    device_id: str = ""
    key_name: str = ""
    retain: bool = False
    payload_bytes: int = 0


@dataclass(frozen=True, slots=True)
class PolicyAnswer:
    """Whether it is allowed, the rule that decides, and why, for people.

    ``rule`` is a pattern of rights, or the name of a rule that is none. ``mqtt_reason_code`` is what an MQTT 5 client
    is told, None where it is allowed. ``patterns`` are all that the asker has for the action.
    """

    allowed: bool
    rule: str
    reason: str
    reason_code: str
    mqtt_reason_code: int | None
    patterns: Sequence[str]


class PolicyJudge(Protocol):
    """The core, asked about rights."""

    def judge(self, grant: Grant, topic: str, *, publishes: bool, retain: bool, payload_bytes: int) -> tuple[int, int]:
        """Give a ``Verdict``, and the place of the pattern that decides, -1 where none does."""
        ...


SHOWN_CHARACTERS = 100

WORDS: dict[Verdict, tuple[str, str, ReasonCode | None, str]] = {
    Verdict.ALLOWED: ("allowed", "", None, "{topic} is allowed by {rule}"),
    Verdict.INVALID_TOPIC: (
        "invalid_topic",
        "topic_syntax",
        ReasonCode.TOPIC_NAME_INVALID,
        "no topic can be named so, or it has more levels than are allowed",
    ),
    Verdict.QUOTA_USED_UP: (
        "quota_exceeded",
        "monthly_quota",
        ReasonCode.QUOTA_EXCEEDED,
        "the account has used up its messages or its bandwidth of this month",
    ),
    Verdict.PAYLOAD_TOO_LARGE: (
        "payload_too_large",
        "payload_maximum",
        ReasonCode.QUOTA_EXCEEDED,
        "the payload is larger than the plan allows",
    ),
    Verdict.FORBIDDEN: (
        "forbidden_topic",
        "no_pattern",
        ReasonCode.NOT_AUTHORIZED,
        "{topic} is not allowed; allowed is: {patterns}",
    ),
    Verdict.RETAINED_FULL: (
        "retained_full",
        "retained_maximum",
        ReasonCode.QUOTA_EXCEEDED,
        "as many messages are retained as may be",
    ),
}


class PolicyCheck:
    """Answers questions about rights; raises ``NotFound`` for a device or key that the account does not have."""

    def __init__(self, directory: Directory, judge: PolicyJudge) -> None:
        self._directory = directory
        self._judge = judge

    async def check(self, account_id: int, question: PolicyQuestion) -> PolicyAnswer:
        """Tell what would be decided at this moment."""
        grant, barred = self._who(account_id, question)
        publishes = question.action == "publish"
        patterns = grant.policy.publish if publishes else grant.policy.subscribe
        if barred is not None:
            rule, code, reason = barred
            return PolicyAnswer(False, rule, reason, code, ReasonCode.NOT_AUTHORIZED, patterns)
        found, place = self._judge.judge(
            grant,
            question.topic,
            publishes=publishes,
            retain=question.retain,
            payload_bytes=question.payload_bytes,
        )
        return _answer(Verdict(found), patterns, place, question)

    def _who(self, account_id: int, question: PolicyQuestion) -> tuple[Grant, tuple[str, str, str] | None]:
        """Find what a CONNECT is granted; and rule, code and reason why there is none at this moment, if so."""
        barred = None
        if self._directory.accounts.get(account_id).suspended:
            barred = ("account_status", "account_suspended", "the account is suspended: nobody of it is let in")
        if question.key_name:
            return self._of_key(account_id, question.key_name), barred
        device = self._directory.devices.get(account_id, question.device_id)
        if not device.active and barred is None:
            barred = ("device_status", "device_inactive", "the device is inactive: it is not let in")
        return self._directory.devices.rights_of(device), barred

    def _of_key(self, account_id: int, name: str) -> Grant:
        grants = [grant for _, grant in self._directory.keys.of_account(account_id) if grant.principal == name]
        if not grants:
            raise NotFound("there is no such key")
        return grants[-1]  # the newest


def _answer(verdict: Verdict, patterns: Sequence[str], place: int, question: PolicyQuestion) -> PolicyAnswer:
    code, rule, mqtt_code, words = WORDS[verdict]
    if verdict in (Verdict.ALLOWED, Verdict.FORBIDDEN) and place >= 0:
        rule = patterns[place]
    if verdict == Verdict.INVALID_TOPIC and question.action == "subscribe":
        mqtt_code = ReasonCode.TOPIC_FILTER_INVALID
    shown = ", ".join(one for one in patterns if not one.startswith("!")) or "nothing"
    if verdict == Verdict.FORBIDDEN and rule.startswith("!"):
        words = "{topic} is refused by {rule}"
    topic = question.topic if len(question.topic) <= SHOWN_CHARACTERS else question.topic[:SHOWN_CHARACTERS] + "..."
    reason = words.format(topic=topic, rule=rule, patterns=shown)
    return PolicyAnswer(verdict == Verdict.ALLOWED, rule, reason, code, mqtt_code, patterns)
