"""Who came in by which certificate: found when a list takes it back, and forgotten with its connection."""

from __future__ import annotations

import asyncio
from functools import cache

import pytest

from broker.accounts.certificates import comparable_name
from broker.net.shown import ShownCertificates
from broker.reasons import ReasonCode
from tests.support import pki


@cache
def ca(name: str = "Devices CA") -> pki.Issued:
    return pki.authority(name)


@cache
def client(name: str, issuer: str = "Devices CA") -> pki.Issued:
    return pki.client(name, ca(issuer))


def entry(one: pki.Issued) -> tuple[bytes, int]:
    return comparable_name(one.certificate.issuer), one.certificate.serial_number


class Core:
    def __init__(self) -> None:
        self.open: set[int] = set()
        self.cut: list[tuple[int, int]] = []
        self.rounds = 0

    def is_open(self, handle: int) -> bool:
        return handle in self.open

    def fail_connection(self, handle: int, reason_code: int) -> None:
        if handle in self.open:
            self.open.discard(handle)
            self.cut.append((handle, reason_code))

    def soon(self) -> None:
        self.rounds += 1


def shown_by(core: Core, *names: str) -> ShownCertificates:
    """One connection for each name, numbered from 0, by listener 1."""
    shown = ShownCertificates(core, core.soon)
    shown.set_list(1, frozenset())
    for handle, name in enumerate(names):
        core.open.add(handle)
        shown.note(handle, 1, client(name).der)
    return shown


def test_who_is_on_a_new_list_is_cut_and_nobody_else() -> None:
    core = Core()
    shown = shown_by(core, "a", "b", "a")
    shown.set_list(2, frozenset())
    core.open |= {7, 8}
    shown.note(7, 2, client("a").der)
    shown.note(8, 1, client("a", "Another CA").der)
    shown.set_list(1, frozenset({entry(client("a")), (entry(client("b"))[0], 4711)}))
    asyncio.run(shown.cut())
    assert sorted(core.cut) == [(0, ReasonCode.ADMINISTRATIVE_ACTION), (2, ReasonCode.ADMINISTRATIVE_ACTION)]
    assert core.open == {1, 7, 8}
    assert core.rounds == 1


def test_a_list_may_spell_its_issuer_in_another_kind_of_string() -> None:
    """TLS calls the two names the same: it refuses such a certificate, so who is connected by it is cut as well."""
    core = Core()
    shown = ShownCertificates(core, core.soon)
    shown.set_list(1, frozenset())
    one = client("a")
    spelled = one.der.replace(b"\x0c\x0aDevices CA", b"\x13\x0adEVICES Ca", 1)
    assert spelled != one.der
    core.open.add(0)
    shown.note(0, 1, spelled)
    shown.set_list(1, frozenset([entry(one)]))
    assert shown.is_revoked(1, spelled)
    asyncio.run(shown.cut())
    assert core.cut == [(0, ReasonCode.ADMINISTRATIVE_ACTION)]


def test_many_are_looked_at_in_slices_and_who_comes_meanwhile_is_judged_by_the_new_list() -> None:
    core = Core()
    shown = shown_by(core, *["a"] * 2500)
    turns: list[int] = []

    async def meanwhile() -> None:
        while len(core.cut) < 2500:
            turns.append(len(core.cut))
            assert shown.is_revoked(1, client("a").der)
            assert not shown.is_revoked(1, client("b").der)
            await asyncio.sleep(0)

    async def body() -> None:
        shown.set_list(1, frozenset({entry(client("a"))}))
        await asyncio.gather(shown.cut(), meanwhile())

    asyncio.run(body())
    assert turns == [500, 1000, 1500, 2000]


def test_who_has_gone_is_forgotten() -> None:
    core = Core()
    shown = shown_by(core)
    for handle in range(5000):
        core.open.add(handle)
        core.open.discard(handle - 100)
        shown.note(handle, 1, client("a").der)
        assert len(shown) <= 202
    assert core.open <= set(shown._shown)


@pytest.mark.parametrize("der", [b"", b"\x30\x00"])
def test_what_cannot_be_read_is_revoked_where_anything_is(der: bytes) -> None:
    core = Core()
    shown = shown_by(core)
    assert not shown.is_revoked(1, der)
    shown.note(1, 1, der)
    assert len(shown) == 0
    shown.set_list(1, frozenset({entry(client("a"))}))
    assert shown.is_revoked(1, der)


def test_a_listener_without_a_list_remembers_nobody() -> None:
    core = Core()
    shown = shown_by(core)
    shown.note(1, 0, client("a").der)
    assert len(shown) == 0
    assert not shown.is_revoked(0, client("a").der)


def test_nobody_escapes_a_new_list_by_those_who_come_while_it_is_worked_off() -> None:
    core = Core()
    shown = shown_by(core, *["a", "b"] * 2000)

    async def newcomers() -> None:
        for handle in range(10_000, 13_000):
            core.open.add(handle)
            shown.note(handle, 1, client("b").der)
            if handle % 100 == 0:
                await asyncio.sleep(0)

    async def body() -> None:
        shown.set_list(1, frozenset({entry(client("a"))}))
        await asyncio.gather(shown.cut(), newcomers())

    asyncio.run(body())
    assert sorted(handle for handle, _ in core.cut) == list(range(0, 4000, 2))
    assert core.open == set(range(1, 4000, 2)) | set(range(10_000, 13_000)) == set(shown._shown)
