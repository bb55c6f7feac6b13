"""Sums by account, day and device: what is added is packed once, and taken once, in the order of keys."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker._core.tally import Tally, packed_accounts, sum_by_account
from broker.storage.tables import day_key

END = 1 << 30
ALL = 2**32 - 1
DAY = 20_397
NO_KEY = bytes(12)

Row = tuple[int, int | None, int, int, int, int]
NUMBER = st.integers(0, 300) | st.integers(0, 2**40)
DEVICE = st.none() | st.integers(1, 6) | st.integers(END - 1, END + 1)
ROWS: st.SearchStrategy[list[Row]] = st.lists(
    st.tuples(st.integers(1, 3), DEVICE, NUMBER, NUMBER, NUMBER, NUMBER), max_size=40
)


def is_application(number: int) -> bool:
    return number == 2


def expected(rows: Sequence[Row], accounts: Sequence[int]) -> dict[bytes, tuple[int, ...]]:
    sums: Counter[tuple[bytes, int]] = Counter()
    for account, device, *figures in rows:
        if account in accounts:
            mine = 0 if device is None or device >= END or is_application(device) else device
            for place, figure in enumerate(figures):
                sums[day_key(account, DAY, mine), place] += figure
    return {key: tuple(sums[key, place] for place in range(4)) for key, _ in sums}


def taken(tally: Tally, at_once: int = 3) -> list[tuple[bytes, tuple[int, ...]]]:
    while not tally.order(at_once):
        pass
    found: list[tuple[bytes, tuple[int, ...]]] = []
    while part := tally.take(at_once):
        found += part
    return found


def packs(tally: Tally, at_once: int = 3) -> list[tuple[int, bytes]]:
    found = []
    while tally.has_fresh:
        found.append(tally.pack(at_once))
    return found


@given(ROWS, ROWS, st.integers(1, 5), st.sampled_from([NO_KEY, day_key(2, DAY, 3), day_key(1, DAY, ALL)]))
def test_what_is_added_is_packed_once_and_unpacked_and_taken_in_the_order_of_keys(
    rows: list[Row], more: list[Row], at_once: int, behind: bytes
) -> None:
    tally, again = Tally(), Tally()
    tally.add(rows, DAY, {1, 2}, is_application, END)
    packed = packs(tally, at_once)
    tally.add(more, DAY, {1, 2}, is_application, END)
    packed += packs(tally, at_once)
    assert tally.pack(9) == (0, b"")
    for count, body in packed:
        again.unpack(body, count, DAY, behind)
    assert not again.has_fresh
    wanted = expected([*rows, *more], [1, 2])
    assert len(tally) == len(wanted)
    for account in (1, 2, 3):
        mine = {key for key in wanted if key[:4] == account.to_bytes(4, "big")}
        assert {day_key(account, *one) for one in struct.iter_unpack("=II", tally.devices_of(account))} == mine
    assert {key: tally.get(key) for key in wanted} == wanted
    assert tally.get(day_key(1, DAY + 1, 1)) is None
    found = taken(tally, at_once)
    assert found == sorted(wanted.items())
    assert len(tally) == 0
    assert tally.devices_of(1) == b""
    assert not any(tally.get(key) for key in wanted)
    assert taken(again, at_once) == [one for one in found if one[0] > behind]


@given(ROWS)
def test_sums_of_accounts_are_those_of_their_rows(rows: list[Row]) -> None:
    sums = {
        account: tuple(sum(row[place] for row in rows if row[0] == account) for place in range(2, 6))
        for account in {row[0] for row in rows}
    }
    assert sum_by_account(rows) == sums
    tally = Tally()
    tally.add(rows, DAY, {1, 2, 3}, is_application, END)
    tally.note_peak(1, DAY, 7)  # a number of connections, and no message
    count, packed = tally.pack(100)
    assert packed_accounts(packed, count) == {
        account: (counted[0] + counted[2], counted[1] + counted[3]) for account, counted in sums.items()
    }


def test_the_highest_peak_of_an_account_stays_and_is_packed_when_it_rises() -> None:
    tally = Tally()
    for peak, is_new in ((3, True), (2, False), (3, False), (9, True)):
        tally.note_peak(1, DAY, peak)
        assert tally.has_fresh == is_new
        packs(tally)
    other = Tally()
    other.unpack(bytes((1, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F, 9, 0, 0, 0)), 1, DAY, NO_KEY)
    other.unpack(bytes((1, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F, 4, 0, 0, 0)), 1, DAY, NO_KEY)
    assert taken(tally) == taken(other) == [(day_key(1, DAY, ALL), (9, 0, 0, 0))]


@given(st.binary(max_size=30), st.integers(0, 4))
def test_bytes_that_are_no_sums_are_refused_whole(packed: bytes, count: int) -> None:
    tally = Tally()
    try:
        tally.unpack(packed, count, DAY, NO_KEY)
    except ValueError:
        assert len(tally) == 0
        with pytest.raises(ValueError, match="sums"):
            packed_accounts(packed, count)
    else:
        assert len(packed_accounts(packed, count)) <= count
        assert len(packed) >= 6 * count


def test_nothing_is_added_to_what_is_being_taken_and_nothing_is_taken_out_of_order() -> None:
    tally = Tally()
    tally.add([(1, device, 1, 1, 1, 1) for device in range(1, 100)], DAY, {1}, is_application, END)
    with pytest.raises(ValueError, match="order"):
        tally.take(1)
    assert not tally.order(5)
    with pytest.raises(ValueError, match="order"):
        tally.take(1)
    with pytest.raises(ValueError, match="added"):
        tally.add([(1, 100, 1, 1, 1, 1)], DAY, {1}, is_application, END)
    with pytest.raises(ValueError, match="12 bytes"):
        Tally().unpack(b"", 0, DAY, b"")
    with pytest.raises(ValueError, match="12 bytes"):
        tally.get(b"")
    assert len(taken(tally)) == 99
