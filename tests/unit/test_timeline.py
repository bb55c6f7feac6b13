"""The timeline of a device: put together, bounded, written late, never taken in twice, gone with its device."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.accounts.authenticator import DirectoryAuthenticator
from broker.accounts.timeline import WAITING_ENTRIES, WRITTEN_AT_ONCE, TimelineBook, merged
from broker.accounts.timeline_records import (
    RECENT_ENTRIES,
    Entry,
    Recent,
    decode_older,
    decode_recent,
    encode_older,
    encode_recent,
    is_timeline,
    older_key,
    recent_key,
)
from broker.accounts.timeline_words import WORDS, code_of_drop, remedy_of, sentence_of
from broker.admin import DeviceChange, DeviceDescription
from broker.errors import NotFound, StoreError, Unavailable
from broker.ports import ConnectRequest
from broker.reasons import DropReason
from broker.storage.tables import TIMELINE
from broker.stories import Event, EventKind, Story
from tests.upper import NOW_S, Upper

SENSOR = DeviceDescription("Sensor", "sensor")
NOW_MS = NOW_S * 1000


class House:
    """One device and its timeline."""

    def __init__(self, upper: Upper, device_id: str, number: int, password: str) -> None:
        self.upper, self.device_id, self.number, self.password = upper, device_id, number, password

    @property
    def book(self) -> TimelineBook:
        return self.upper.directory.devices.timeline

    def note(self, code: str, at_ms: int = NOW_MS, text: str = "", times: int = 1) -> None:
        self.book.note(self.number, Entry(code, at_ms, at_ms, times, text=text))

    async def read(self, limit: int = 200, before: int | None = None) -> list[Entry]:
        return (await self.book.read(self.number, limit, before))[0]

    async def codes(self) -> list[str]:
        return [entry.code for entry in await self.read()]

    def restarted(self) -> House:
        return House(self.upper.restart(), self.device_id, self.number, self.password)

    def rows(self) -> int:
        return len(self.upper.store.load(TIMELINE))


def run(body: Callable[[House], Awaitable[None]]) -> None:
    async def whole() -> None:
        upper = Upper()
        await upper.bootstrap()
        view, login = await upper.admin.create_device(1, SENSOR)
        number = upper.directory.devices.get(1, view.device_id).device_number
        await body(House(upper, view.device_id, number, login.password))

    asyncio.run(whole())


# ---------------------------------------------------------------- what is kept


def test_entries_are_there_before_and_after_they_are_written_and_after_a_restart() -> None:
    async def body(house: House) -> None:
        house.note("connected")
        house.note("denied_publish", text="a/b")
        before = await house.read()
        assert [entry.code for entry in before] == ["denied_publish", "connected"]
        assert house.rows() == 0
        await house.upper.telling.look()
        assert (await house.read(), house.rows()) == (before, 1)
        house.note("disconnected")
        assert await house.restarted().read() == before  # what was not written yet is lost with the process

    run(body)


def test_what_happens_again_within_an_hour_is_counted() -> None:
    async def body(house: House) -> None:
        for minute in range(10):
            house.note("connection_lost", NOW_MS + minute * 60_000)
            house.note("connected", NOW_MS + minute * 60_000 + 1)
            await house.upper.telling.look()
        lost = (await house.read())[1]
        assert (lost.count, lost.first_ms, lost.last_ms) == (10, NOW_MS, NOW_MS + 540_000)
        house.note("connection_lost", NOW_MS + 540_000 + 3_600_000)
        assert [entry.count for entry in await house.read()] == [1, 10, 10]

    run(body)


def test_entries_that_differ_stand_apart() -> None:
    async def body(house: House) -> None:
        house.note("denied_publish", text="a")
        house.note("denied_publish", text="b")
        assert [entry.text for entry in await house.read()] == ["b", "a"]

    run(body)


def test_the_newest_hundred_are_kept_in_pages_without_a_gap() -> None:
    async def body(house: House) -> None:
        for number in range(250):
            house.note("denied_publish", NOW_MS + number, text=str(number))
            if number % 7 == 0:
                await house.upper.telling.look()
        every = await house.read()
        assert [entry.text for entry in every] == [str(number) for number in range(249, 149, -1)]
        paged: list[Entry] = []
        before = None
        more = True
        while more:
            page, more = await house.book.read(house.number, 7, before)
            paged += page
            before = page[-1].number
        assert paged == every
        assert house.rows() == 2
        assert sum(len(value) for _, value in house.upper.store.load(TIMELINE)) < 120 * 64

    run(body)


def test_one_device_waits_with_a_bounded_number_of_entries() -> None:
    async def body(house: House) -> None:
        for number in range(1000):
            house.note("denied_publish", text=str(number))
        assert len(await house.read()) == WAITING_ENTRIES
        assert house.book.figures() == {"waiting": 1, "lost": 1000 - WAITING_ENTRIES}

    run(body)


def test_many_devices_are_written_in_parts() -> None:
    async def body(house: House) -> None:
        await house.upper.admin.operator.set_plan("default", "unlimited")
        numbers = [house.number]
        for _ in range(WRITTEN_AT_ONCE):
            view, _ = await house.upper.admin.create_device(1, SENSOR)
            numbers.append(house.upper.directory.devices.get(1, view.device_id).device_number)
        for number in numbers:
            house.book.note_now(number, "connected")
        await house.upper.telling.look()
        assert house.rows() == len(numbers)
        assert not house.book.is_waiting

    run(body)


def test_who_does_not_exist_has_no_timeline() -> None:
    async def body(house: House) -> None:
        house.book.note_now(house.number + 1000, "connected")
        assert not house.book.is_waiting
        with pytest.raises(NotFound):
            await house.upper.admin.timelines.read(1, "nobody", 10)
        other = await house.upper.admin.operator.create_account("other", "free")
        with pytest.raises(NotFound):
            await house.upper.admin.timelines.read(other.account_id, house.device_id, 10)

    run(body)


# ---------------------------------------------------------------- the disk


def test_what_the_disk_did_not_take_is_written_once_later() -> None:
    async def body(house: House) -> None:
        house.note("connected")
        house.upper.store.fail(OSError("full"), 1)
        await house.upper.telling.look()
        assert house.rows() == 0
        house.note("disconnected")
        assert await house.codes() == ["disconnected", "connected"]
        await house.upper.telling.look()
        assert [(entry.code, entry.count) for entry in await house.read()] == [("disconnected", 1), ("connected", 1)]

    run(body)


def test_a_commit_that_was_reported_lost_but_was_not_is_not_taken_in_twice() -> None:
    async def body(house: House) -> None:
        house.note("connected")
        await house.book.write()
        house.note("connected", NOW_MS + 1)
        part = house.book._waiting[house.number]
        await house.book.write()
        house.book._unsettled = {house.number: part}  # as if nobody knew what became of it
        assert [entry.count for entry in await house.read()] == [2]
        await house.book.write()
        assert [entry.count for entry in await house.read()] == [2]

    run(body)


def test_a_damaged_record_is_passed_over_and_begins_anew() -> None:
    async def body(house: House) -> None:
        house.note("connected")
        await house.book.write()
        house.upper.store._tables[TIMELINE][recent_key(house.number)] = b"\xc1"
        house.upper.store._tables[TIMELINE][older_key(house.number)] = b""
        house.note("disconnected")
        assert await house.codes() == ["disconnected"]
        await house.book.write()
        assert await house.codes() == ["disconnected"]

    run(body)


def test_a_disk_that_cannot_be_read_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(house: House) -> None:
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(house.upper.store, "read", lambda _table, _keys, told: loop.call_soon(told, (), OSError()))
        with pytest.raises(Unavailable):
            await house.upper.admin.timelines.read(1, house.device_id, 10)

    run(body)


def test_a_deleted_device_leaves_nothing_behind() -> None:
    async def body(house: House) -> None:
        for number in range(RECENT_ENTRIES + 10):
            house.note("denied_publish", text=str(number))
            await house.book.write()
        assert house.rows() == 2
        house.note("connected")
        await house.upper.admin.delete_device(1, house.device_id)
        house.note("disconnected")
        await house.upper.telling.look()
        assert (house.rows(), house.book.is_waiting) == (0, False)

    run(body)


def test_a_device_that_goes_while_it_is_written_comes_not_back() -> None:
    async def body(house: House) -> None:
        house.note("connected")
        writing = asyncio.create_task(house.book.write())
        await house.upper.admin.delete_device(1, house.device_id)
        await writing
        assert house.rows() == 0

    run(body)


# ---------------------------------------------------------------- where entries come from


def request(house: House, password: str, address: str = "192.0.2.7") -> ConnectRequest:
    return ConnectRequest(0, address, 5, "c", house.device_id, password.encode())


def test_refused_logins_say_why() -> None:
    async def body(house: House) -> None:
        judge = DirectoryAuthenticator(house.upper.directory, monotonic=lambda: 1.0, sleep=_at_once)
        await judge.authenticate(request(house, "wrong"))
        (entry,) = await house.read()
        assert (entry.code, entry.address, entry.protocol) == ("refused_wrong_password", "192.0.2.7", "5.0")
        await house.upper.admin.change_device(1, house.device_id, DeviceChange(active=False))
        await judge.authenticate(request(house, house.password))
        await house.upper.admin.change_device(1, house.device_id, DeviceChange(active=True))
        await house.upper.admin.operator.set_suspended("default", True)
        await judge.authenticate(request(house, house.password))
        assert await house.codes() == [
            "refused_suspended", "activated", "refused_inactive", "deactivated", "refused_wrong_password",
        ]  # fmt: skip
        await judge.authenticate(ConnectRequest(0, "192.0.2.7", 5, "c", "nobody", b"x"))  # is nobody's entry
        assert len(await house.read()) == 5

    run(body)


async def _at_once(_seconds: float) -> None:
    pass


def test_strangers_who_guess_push_nothing_out() -> None:
    async def body(house: House) -> None:
        judge = DirectoryAuthenticator(house.upper.directory, monotonic=lambda: 1.0, sleep=_at_once)
        house.note("connected")
        for number in range(300):
            await judge.authenticate(request(house, "wrong", f"2001:db8:{number:x}::1"))
            if number % 50 == 0:
                await house.upper.telling.look()
        found = {entry.code: entry for entry in await house.read()}
        assert set(found) == {"connected", "refused_wrong_password"}
        assert found["refused_wrong_password"].count == 300
        assert found["refused_wrong_password"].address == f"2001:db8:{299:x}::1"

    run(body)


def test_one_story_that_cannot_be_told_keeps_no_other_from_it() -> None:
    async def body(house: House) -> None:
        at = NOW_S * 10**9
        good = Event(EventKind.CONNECTED, 0, at, at, 1, 5, 0, False, "", "", "c")
        bad = good._replace(door=99)
        house.upper.core.stories = [
            Story(1, house.number, house.device_id, False, True, [one], [], 0) for one in (bad, good)
        ]
        house.upper.telling.take()
        assert await house.codes() == ["connected"]

    run(body)


def test_changes_of_credentials_are_told() -> None:
    async def body(house: House) -> None:
        await house.upper.admin.rotate_password(1, house.device_id, 60)
        house.upper.clock.pass_s(61)
        house.upper.directory.devices.end_overlaps(house.upper.clock.wall_s())
        await asyncio.sleep(0.01)
        print_ = "ab" * 32
        await house.upper.admin.change_device(1, house.device_id, DeviceChange(certificate_fingerprint=print_))
        await house.upper.admin.change_device(1, house.device_id, DeviceChange(certificate_fingerprint="", name="New"))
        assert await house.codes() == [
            "certificate_unbound", "certificate_bound", "password_ended", "password_rotated",
        ]  # fmt: skip

    run(body)


def test_a_story_becomes_entries_and_what_is_said_twice_is_said_once() -> None:
    async def body(house: House) -> None:
        at = NOW_S * 10**9
        denied = Event(EventKind.DENIED_PUBLISH, 0, at, at, 7, 4, 0, False, "192.0.2.7", "", "a/b")
        drops = [(DropReason.NOT_AUTHORIZED, 7), (DropReason.CLIENT_AWAY, 3)]
        house.upper.core.noise = [Story(1, house.number, house.device_id, True, True, [denied], drops, 2)]
        await house.upper.telling.gather()
        entries = await house.read()
        assert sorted((one.code, one.count) for one in entries) == [
            ("denied_publish", 7), ("dropped_client_away", 3), ("events_lost", 2),
        ]  # fmt: skip
        page = await house.upper.admin.timelines.read(1, house.device_id, 10)
        shown = next(one for one in page.entries if one.code == "denied_publish")
        assert (shown.topic, shown.client_id, shown.protocol, shown.mqtt_version) == ("a/b", "", "mqtt", "3.1.1")
        assert "a/b" in shown.message
        assert shown.remedy

    run(body)


# ---------------------------------------------------------------- words and bytes


def test_every_code_has_a_sentence_that_can_be_said_about_anything() -> None:
    for code in WORDS:
        said = sentence_of(code, "{0} %s {text}", "{address}", "")
        assert said[0].isupper()
        assert said.endswith(".")
        assert remedy_of(code) == "" or remedy_of(code).endswith(".")
    assert {code_of_drop(reason) for reason in DropReason} <= set(WORDS)
    assert sentence_of("of another version", "", "", "") == "of another version"
    assert remedy_of("of another version") == ""


TEXT = st.text(max_size=20)
ENTRIES = st.builds(
    Entry,
    code=TEXT,
    first_ms=st.integers(0, 2**40),
    last_ms=st.just(2**41),
    count=st.integers(0, 2**40),
    protocol=TEXT,
    address=TEXT,
    other=TEXT,
    text=TEXT,
    number=st.integers(0, 2**40),
)


@given(st.lists(ENTRIES, max_size=5), st.integers(1, 2**53), st.integers(0, 2**62))
def test_records_come_back_as_they_were(entries: list[Entry], number: int, token: int) -> None:
    recent = Recent(number, token, tuple(entries))
    assert decode_recent(encode_recent(recent)) == recent
    assert decode_older(encode_older(entries)) == tuple(entries)


@given(st.binary(max_size=60), st.sampled_from([recent_key(1), older_key(1), b"12345", b""]))
def test_any_bytes_are_a_record_or_are_refused(value: bytes, key: bytes) -> None:
    try:
        found = is_timeline(key, value)
    except StoreError:
        return
    assert isinstance(found, bool)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 10**8), st.integers(1, 5)), max_size=30))
def test_putting_together_loses_no_count(noted: list[tuple[str, int, int]]) -> None:
    entries: list[Entry] = []
    for code, at, times in noted:
        entries = merged(entries, Entry(code, at, at, times))
    for code in "abc":
        assert sum(one.count for one in entries if one.code == code) == sum(n for one, _, n in noted if one == code)
    assert len(entries) <= len(noted)
