"""The index of devices against a list that is walked: whatever comes, changes and goes, both say the same.

Here belong what is kept in memory, and how it is found. Not here: what is durable (``unit/test_directory``).
"""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import replace
from itertools import pairwise
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from broker._core.names import Names
from broker._core.roster import Roster
from broker.accounts.device_index import SHELF_RECORDS, DeviceIndex
from broker.accounts.device_search import STATUSES, Sought, search
from broker.accounts.records import Device
from broker.errors import Conflict

FoundT = TypeVar("FoundT")

# Letters that fold to others, to more than one, or not at all; bytes that could be taken for what stands between texts.
PIECES = ("a", "A", "b", "ab", "ß", "SS", "\u017f", "İ", "ﬁ", "ǅ", "Σ", "ς", "ÿ", "þ", "\0", "😀", " ")
TEXTS = st.lists(st.sampled_from(PIECES), max_size=40).map("".join)
SHORT = st.lists(st.sampled_from((*PIECES, "\ud800")), max_size=3).map("".join)
TYPES = st.sampled_from(("sensor", "sensors", "Sensor", "\0", "ÿ"))
IDS = st.sampled_from(("chosen", "other", "1/chosen", ""))  # empty: one is generated
CERTIFICATES = ("f" * 64, "0" * 64)
FINGERPRINTS = st.sampled_from(("", "", *CERTIFICATES))
STATUS = st.sampled_from(tuple(STATUSES))
ACCOUNTS = st.sampled_from((1, 1, 1, 11))
PICK = st.integers(0, 10**6)


def made(number: int, account_id: int, device_id: str, fingerprint: str = "") -> Device:
    user_name = f"u{number}"
    return Device(
        device_number=number,
        account_id=account_id,
        device_id=device_id or user_name,
        user_name=user_name,
        digest=bytes(32),
        name="",
        device_type="sensor",
        description="",
        metadata_json="{}",
        active=True,
        created_at=1,
        updated_at=1,
        certificate_fingerprint=fingerprint,
    )


def means(device: Device, sought: Sought, in_error: bool) -> bool:
    """What the documents say."""
    text = sought.text.casefold()
    status = "inactive" if not device.active else "error" if in_error else "active"
    return (
        sought.device_type in ("", device.device_type)
        and sought.status in ("", status)
        and (text in device.name.casefold() or text in device.description.casefold())
    )


def finished(coroutine: Coroutine[Any, Any, FoundT]) -> FoundT:
    """Take all turns of what waits for nothing but its turn."""
    try:
        while True:
            coroutine.send(None)
    except StopIteration as done:
        found: FoundT = done.value
        return found


class Indexed(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.index = DeviceIndex()
        self.model: list[Device] = []  # the oldest first
        self.refused: set[int] = set()
        self.in_error: set[int] = set()
        self.number = 0

    def picked(self, pick: int) -> int:
        return pick % len(self.model)

    @rule(account=ACCOUNTS, device_id=IDS, name=TEXTS, text=TEXTS, device_type=TYPES, fingerprint=FINGERPRINTS)
    def register(self, account: int, device_id: str, name: str, text: str, device_type: str, fingerprint: str) -> None:
        if device_id and self.index.with_id(account, device_id) is not None:
            return
        try:
            self.index.reserve_fingerprint(fingerprint)
        except Conflict:
            assert any(one.certificate_fingerprint == fingerprint for one in self.model)
            return
        self.index.release_fingerprint(fingerprint)
        self.number += 1
        device = replace(
            made(self.number, account, device_id, fingerprint), name=name, description=text, device_type=device_type
        )
        self.model.append(device)
        self.index.add(device, device.encode())

    @rule(count=st.integers(1, 3 * SHELF_RECORDS), account=ACCOUNTS, text=TEXTS)
    def register_many(self, count: int, account: int, text: str) -> None:
        for _ in range(count):
            self.register(account, "", f"{text}{self.number % 7}", "", "sensor", "")

    @precondition(lambda self: self.model)
    @rule(pick=PICK, name=TEXTS, text=TEXTS, device_type=TYPES, active=st.booleans(), fingerprint=FINGERPRINTS)
    def change(self, pick: int, name: str, text: str, device_type: str, active: bool, fingerprint: str) -> None:
        before = self.model[self.picked(pick)]
        if any(one.certificate_fingerprint == fingerprint != "" for one in self.model):
            fingerprint = before.certificate_fingerprint
        after = replace(
            before,
            name=name,
            description=text,
            device_type=device_type,
            active=active,
            certificate_fingerprint=fingerprint,
        )
        self.model[self.picked(pick)] = after
        self.index.replace(after, after.encode())

    @precondition(lambda self: self.model)
    @rule(pick=PICK, in_error=st.booleans())
    def refuse(self, pick: int, in_error: bool) -> None:
        number = self.model[self.picked(pick)].device_number
        self.refused.add(number)
        (self.in_error.add if in_error else self.in_error.discard)(number)
        self.index.refuse(number)

    @precondition(lambda self: self.model)
    @rule(pick=PICK, count=st.integers(1, 2 * SHELF_RECORDS))
    def remove(self, pick: int, count: int) -> None:
        for _ in range(min(count, len(self.model))):
            gone = self.model.pop(self.picked(pick))
            self.index.remove(gone.device_number)
            self.refused.discard(gone.device_number)
            self.in_error.discard(gone.device_number)
            self.index.refuse(gone.device_number)  # too late
            assert gone.device_number not in self.index

    @rule(
        account=ACCOUNTS,
        text=SHORT | TEXTS,
        device_type=st.just("") | TYPES,
        status=STATUS,
        limit=st.integers(1, 100),
        offset=st.just(0) | st.integers(0, 300),
        hold_ns=st.sampled_from((1, 100, 10**6)),
    )
    def look(
        self, account: int, text: str, device_type: str, status: str, limit: int, offset: int, hold_ns: int
    ) -> None:
        self._compare(account, Sought(text, device_type, status), limit, offset, hold_ns)

    @precondition(lambda self: self.model)
    @rule(pick=PICK, start=st.integers(0, 40), length=st.integers(1, 40), ends=st.integers(1, 5))
    def look_for_a_part(self, pick: int, start: int, length: int, ends: int) -> None:
        device = self.model[self.picked(pick)]
        for text in (device.name, device.description):
            part = text[start % max(1, len(text)) :][:length].swapcase()
            self._compare(device.account_id, Sought(part), 100, 0, 1000)
        across = device.name[-ends:] + device.description[:ends]
        self._compare(device.account_id, Sought(across), 100, 0, 1000)

    def _compare(self, account: int, sought: Sought, limit: int, offset: int, hold_ns: int) -> None:
        def judge(number: int) -> bool:
            assert number in self.refused
            return number in self.in_error

        matching = [
            one for one in self._newest_first(account) if means(one, sought, one.device_number in self.in_error)
        ]
        roster = self.index.of(account).roster
        found = finished(search(roster, sought, judge, self.index.__getitem__, limit, offset, hold_ns))
        assert found == (matching[offset : offset + limit], len(matching))

    @rule(account=ACCOUNTS, limit=st.integers(1, 100), offset=st.integers(0, 300), number=st.integers(0, 300))
    def walk(self, account: int, limit: int, offset: int, number: int) -> None:
        numbers = [one.device_number for one in self._newest_first(account)]
        roster = self.index.of(account).roster
        assert roster.page(limit, offset) == numbers[offset : offset + limit]
        assert roster.below(None, limit) == numbers[:limit]
        assert roster.below(number, limit) == [one for one in numbers if one < number][:limit]
        assert roster.above(number, limit) == [one for one in numbers[::-1] if one > number][:limit]

    @rule(account=ACCOUNTS, device_id=IDS)
    def find_by_id(self, account: int, device_id: str) -> None:
        everywhere = [one for one in self.model if one.device_id == device_id]
        here = [one for one in everywhere if one.account_id == account]
        assert self.index.with_id(account, device_id) == (here[0] if here else None)
        assert self.index.named(device_id) == (everywhere[0] if len(everywhere) == 1 else None)

    @precondition(lambda self: self.model)
    @rule(pick=PICK)
    def find_one(self, pick: int) -> None:
        device = self.model[self.picked(pick)]
        assert self.index[device.device_number] == self.index.get(device.device_number) == device
        assert self.index.with_user_name(device.user_name) == device
        assert self.index.with_id(device.account_id, device.device_id) == device
        assert self.index.with_id(device.account_id + 1, device.user_name) is None

    @invariant()
    def all_are_counted(self) -> None:
        assert len(self.index) == len(self.model)
        assert sum(len(one.roster) for one in self.index.by_account.values()) == len(self.model)

    @invariant()
    def each_status_is_listed(self) -> None:
        for status in STATUSES:
            self._compare(1, Sought(status=status), 20, 0, 10**6)

    @invariant()
    def a_certificate_is_free_or_its_device_s(self) -> None:
        for fingerprint in CERTIFICATES:
            bound = next((one for one in self.model if one.certificate_fingerprint == fingerprint), None)
            assert self.index.with_fingerprint(fingerprint) == bound
            if bound is None:
                self.index.reserve_fingerprint(fingerprint)
                with pytest.raises(Conflict):
                    self.index.reserve_fingerprint(fingerprint)
                self.index.release_fingerprint(fingerprint)
            else:
                with pytest.raises(Conflict):
                    self.index.reserve_fingerprint(fingerprint)

    def _newest_first(self, account: int) -> list[Device]:
        return [one for one in self.model[::-1] if one.account_id == account]


TestIndexed = Indexed.TestCase
TestIndexed.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)


@given(st.lists(st.tuples(st.integers(0, 40), st.booleans()), max_size=60), st.integers(1, 20))
@settings(max_examples=50)
def test_a_search_finds_each_that_stays_once_while_others_come_and_go(
    steps: list[tuple[int, bool]], limit: int
) -> None:
    roster = Roster()
    for number in range(100, 140):
        roster.add(number, b"sensor", b"text", True)
    stay, newest = set(range(100, 140)), 140
    below, total, found = None, 0, list[int]()
    for at, add in [*steps, *[(0, True)] * 300]:
        matching, numbers, below = roster.scan(below, b"ex", b"", 0, bool, max(0, 5 - total), limit - len(found), 30)
        total += matching
        found += numbers
        if below is None:
            break
        if add:
            roster.add(newest, b"sensor", b"text", True)
            newest += 1
        elif 100 + at in stay:
            roster.remove(100 + at)
            stay.remove(100 + at)
    assert below is None
    assert len(stay) <= total <= 40
    assert all(one > other for one, other in pairwise(found))
    assert len(found) == min(limit, max(0, total - 5))


@pytest.mark.parametrize("length", [*range(40), 300])
def test_a_needle_is_found_wherever_it_is_and_nowhere_else(length: int) -> None:
    # Of every length around sixteen, in texts of every length around it: at the beginning, amid and at the end.
    needle = b"n" + b"e" * length + b"d"
    for before in (0, 1, 14, 15, 16, 17, 31, 100):
        for behind in (0, 1, 15, 16, 17):
            roster = Roster()
            roster.add(1, b"t", b"-" * before + needle + b"-" * behind, True)
            roster.add(2, b"t", b"n" * before + needle[1:] + b"d" * behind if not before else b"-" * before, True)
            roster.add(3, b"t", b"-" * before + needle[:-1] + b"-" * behind, True)
            roster.add(4, needle, b"", True)
            assert roster.scan(None, needle, b"", 0, bool, 0, 9, 10**6)[:2] == (1, [1])


def test_what_is_not_there_is_said() -> None:
    roster, names = Roster(), Names()
    roster.add(5, b"", b"", True)
    for change in (
        lambda: roster.remove(4),
        lambda: roster.replace(6, b"", b"", True),
        lambda: roster.refuse(4),
        lambda: names.remove("absent", 1),
    ):
        with pytest.raises(KeyError):
            change()
    with pytest.raises(ValueError, match="there already"):
        roster.add(5, b"", b"", True)
    with pytest.raises(ValueError, match="65,535"):
        roster.add(6, b"t" * 65_536, b"", True)
    assert len(roster) == 1


def test_numbers_that_come_out_of_order_are_put_in_order() -> None:
    roster = Roster()
    for number in (5, 1, 9, 3, 7):
        roster.add(number, b"", b"", True)
    assert roster.page(9, 0) == [9, 7, 5, 3, 1]


def test_names_are_found_by_their_numbers_while_thousands_come_and_go() -> None:
    names = Names()
    for number in range(5000):
        names.add(f"name {number % 2500}", number)
    for number in range(2500):
        assert sorted(names.find(f"name {number}")) == [number, number + 2500]
        names.remove(f"name {number}", number)
    assert len(names) == 2500
    for number in range(2500, 5000):
        assert names.find(f"name {number - 2500}") == [number]
        names.remove(f"name {number - 2500}", number)
    assert len(names) == 0
    assert names.find("name 1") == []
