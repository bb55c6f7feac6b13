"""Rules of what keys may do: the words of scopes and patterns, and the policy that the core is given."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.errors import BadRequest
from broker.policy.key_rights import (
    EVERYTHING,
    PATTERN_MAXIMUM_CHARACTERS,
    PATTERNS_MAXIMUM,
    SCOPES,
    KeyRights,
    checked_rights,
    is_pattern,
)
from broker.policy.policies import APPLICATION

LEVELS = st.sampled_from(["devices", "+", "{device_id}", "telemetry", "é", "", "a b"])
PATTERNS = st.lists(LEVELS, min_size=1, max_size=5).map("/".join).filter(bool) | st.sampled_from(["#", "a/#", "$SYS/#"])


def test_a_key_without_scopes_and_patterns_has_what_applications_have() -> None:
    assert checked_rights(None).policy() == APPLICATION
    assert checked_rights(SCOPES[::-1] + SCOPES).policy() == APPLICATION
    assert EVERYTHING.stored() == ("", "")


def test_scopes_that_a_key_has_not_leave_nothing_of_their_direction() -> None:
    assert checked_rights(["subscribe"]).policy().publish == ()
    assert checked_rights(["publish"]).policy().subscribe == ()
    assert not checked_rights(["devices:read", "usage:read"]).may_connect


def test_patterns_stand_in_both_directions_behind_what_nobody_may_publish() -> None:
    policy = checked_rights(None, ["devices/{device_id}/commands/#", "a"]).policy()
    assert policy.publish == ("!devices/+/presence", "a", "devices/+/commands/#")
    assert policy.subscribe == ("a", "devices/+/commands/#")


@pytest.mark.parametrize(
    "pattern",
    [
        *(
            "#",
            "+",
            "a",
            "/",
            "a/+/b",
            "devices/{device_id}/telemetry",
            "{device_id}",
            "$SYS/#",
            "a!",
            "{other}",
            "a b",
        ),
        "x" * PATTERN_MAXIMUM_CHARACTERS,
    ],
)
def test_a_topic_filter_can_bind_a_key(pattern: str) -> None:
    assert is_pattern(pattern)
    assert checked_rights(None, [pattern]).patterns == (pattern,)


@pytest.mark.parametrize(
    "pattern",
    [
        *(
            "",
            "!a",
            "a#",
            "#/a",
            "a/#/b",
            "+a",
            "a+/b",
            "x{device_id}",
            "$share/g/a",
            "$SYSTEM",
            "$",
            "a\0",
            "a\n",
            "\ud800",
        ),
        "x" * (PATTERN_MAXIMUM_CHARACTERS + 1),
    ],
)
def test_what_is_no_filter_cannot(pattern: str) -> None:
    with pytest.raises(BadRequest) as caught:
        checked_rights(None, ["a", pattern])
    assert (caught.value.field, caught.value.provided) == ("patterns", pattern)


@pytest.mark.parametrize("scopes", [[], ["root"], ["publish", "Publish"], ["devices:read "], [""]])
def test_unknown_scopes_and_none_at_all_are_refused(scopes: list[str]) -> None:
    with pytest.raises(BadRequest) as caught:
        checked_rights(scopes)
    assert caught.value.field == "scopes"


def test_as_many_patterns_as_allowed_and_one_more() -> None:
    assert len(checked_rights(None, [f"t/{one}" for one in range(PATTERNS_MAXIMUM)] * 2).patterns) == PATTERNS_MAXIMUM
    with pytest.raises(BadRequest):
        checked_rights(None, [f"t/{one}" for one in range(PATTERNS_MAXIMUM + 1)])


@given(st.none() | st.lists(st.sampled_from(SCOPES), min_size=1), st.lists(PATTERNS, max_size=6))
def test_what_is_stored_comes_back(scopes: list[str] | None, patterns: list[str]) -> None:
    rights = checked_rights(scopes, patterns)
    assert KeyRights.of_record(*rights.stored()) == rights


@given(st.text(max_size=20), st.text(max_size=20))
def test_text_that_nobody_has_stored_is_refused(scopes: str, patterns: str) -> None:
    try:
        rights = KeyRights.of_record(scopes, patterns)
    except ValueError:
        return
    assert rights.stored() == (scopes, patterns)
