"""Passwords that people have chosen: the hash, the one worker, and devices that come in by one; over a memory store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from broker.accounts import chosen_passwords as worker
from broker.accounts.authenticator import DirectoryAuthenticator
from broker.accounts.chosen_passwords import ChosenPasswords, Proof, TooMany
from broker.accounts.device_description import DeviceChange, DeviceDescription, OwnLogin, check_user_name
from broker.accounts.records import Device
from broker.errors import BadRequest, Conflict
from broker.policy import chosen_passwords as policy
from broker.policy.chosen_passwords import check_chosen, hash_chosen, is_hash, is_password_of
from broker.ports import ConnectRequest, Grant, Refusal
from broker.reasons import ReasonCode
from tests.upper import NOW_S, Upper

PASSWORD = "correct horse battery staple"
USER = "boiler@works"
D = b"d" * 32


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a hash cost little; the cost that is set has a test of its own."""
    monkeypatch.setattr(policy, "MEMORY_KIB", 64)
    monkeypatch.setattr(policy, "ITERATIONS", 1)


# ---------------------------------------------------------------- the hash


def test_the_hash_is_argon2id_as_everybody_writes_it_at_the_cost_that_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "MEMORY_KIB", 19 * 1024)
    monkeypatch.setattr(policy, "ITERATIONS", 2)
    text = hash_chosen(PASSWORD.encode())
    assert text.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    Argon2id.verify_phc_encoded(PASSWORD.encode(), text)  # another reader's judgement
    assert is_password_of(text, PASSWORD.encode())


def test_two_hashes_of_one_password_differ_and_no_other_password_has_one() -> None:
    one, other = hash_chosen(PASSWORD.encode()), hash_chosen(PASSWORD.encode())
    assert one != other
    for wrong in (b"", PASSWORD.encode()[:-1], PASSWORD.encode() + b"\0", PASSWORD.upper().encode(), b"x" * 10_000):
        assert not is_password_of(one, wrong)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("argon2id", "argon2i"),
        lambda text: text.replace("v=19", "v=16"),
        lambda text: text.replace("m=64", "m=7"),
        lambda text: text.replace("m=64", "m=9999999"),
        lambda text: text.replace("t=1", "t=0"),
        lambda text: text.replace("t=1", "t=99"),
        lambda text: text.replace("p=1", "p=9"),
        lambda text: text + "A",
        lambda text: text[:-1],
        lambda text: "",
    ],
)
def test_a_record_cannot_ask_for_more_than_can_be_borne(change: Callable[[str], str]) -> None:
    text = hash_chosen(PASSWORD.encode())
    assert is_hash(text)
    assert not is_hash(change(text))
    assert not is_password_of(change(text), PASSWORD.encode())


@pytest.mark.parametrize("password", ["", "short", "seven77", "x" * 257, "ü" * 129, "tab\tin the middle", "\ud800" * 9])
def test_what_nobody_should_choose_is_refused_without_being_repeated(password: str) -> None:
    with pytest.raises(BadRequest) as refused:
        check_chosen(password)
    assert refused.value.provided is None
    assert not password or password not in str(refused.value)


@pytest.mark.parametrize("user_name", ["", "apikey", "iot_dev_abc", "claim_abc.pump", "x" * 129, "a\nb", "\ud800"])
def test_a_user_name_that_could_be_somebody_elses_is_refused(user_name: str) -> None:
    with pytest.raises(BadRequest):
        check_user_name(user_name)


# ---------------------------------------------------------------- the worker


class Slow:
    """A worker whose comparisons wait for the test, and its time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.rests: list[float] = []
        self.compared = 0
        self.go = asyncio.Event()
        self.passwords = ChosenPasswords(lambda: self.now, self._sleep)
        monkeypatch.setattr(self.passwords, "_work", self._work)

    async def _sleep(self, seconds: float) -> None:
        self.rests.append(seconds)
        self.now += seconds

    async def _work(self, _function: object, text: str, password: bytes) -> bool:
        await self.go.wait()
        self.compared += 1
        self.now += 0.03
        return password == b"right"

    def ask(self, caller: str, password: bytes = b"wrong", *, failed: bool = False) -> asyncio.Task[bool]:
        proof = Proof(caller, password.ljust(32), "hash", password)
        return asyncio.create_task(self.passwords.is_right(proof, failed_lately=failed))


def test_comparisons_come_one_after_the_other_with_a_rest_as_long_as_each(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        slow = Slow(monkeypatch)
        slow.go.set()
        assert await asyncio.gather(*(slow.ask(f"192.0.2.{number}") for number in range(3))) == [False] * 3
        assert slow.rests == pytest.approx([0.03, 0.03])

    asyncio.run(body())


def test_what_was_right_is_known_again_and_what_was_wrong_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        slow = Slow(monkeypatch)
        slow.go.set()
        for _ in range(2):
            assert await slow.ask("192.0.2.1", b"right")
            assert not await slow.ask("192.0.2.1", b"wrong")
        assert slow.compared == 3
        monkeypatch.setattr(worker, "REMEMBERED_MAXIMUM", 1)
        slow.passwords._right[b"another", "hash"] = None
        await slow.passwords.is_right(Proof("a", b"n" * 32, "other hash", b"right"), failed_lately=False)
        assert len(slow.passwords._right) == 2  # as many as before: the least recent was forgotten

    asyncio.run(body())


def test_one_caller_cannot_take_all_places_and_all_callers_not_more_than_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def body() -> None:
        slow = Slow(monkeypatch)
        monkeypatch.setattr(worker, "WAITING_MAXIMUM", 20)
        waiting = [slow.ask("192.0.2.1") for _ in range(worker.WAITING_OF_ONE)]
        await asyncio.sleep(0)
        for caller, failed in (("192.0.2.1", False), ("192.0.2.1", True)):
            with pytest.raises(TooMany):
                await slow.ask(caller, failed=failed)
        waiting.append(slow.ask("192.0.2.2", failed=True))
        await asyncio.sleep(0)
        with pytest.raises(TooMany):
            await slow.ask("192.0.2.2", failed=True)  # who failed lately has one
        waiting += [slow.ask(f"192.0.2.{number}") for number in range(3, 6)]
        await asyncio.sleep(0)
        with pytest.raises(TooMany):
            await slow.ask("192.0.2.9")
        slow.go.set()
        await asyncio.gather(*waiting)
        assert slow.passwords._waiting == {}
        assert not await slow.ask("192.0.2.9")

    asyncio.run(body())


def test_who_guesses_from_many_networks_leaves_places_and_turns_to_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        slow = Slow(monkeypatch)
        monkeypatch.setattr(worker, "WAITING_MAXIMUM", 20)
        ended: list[str] = []
        guesses = [slow.ask(f"192.0.2.{number}", failed=True) for number in range(10)]
        await asyncio.sleep(0)
        with pytest.raises(TooMany):
            await slow.ask("192.0.2.10", failed=True)
        honest = [slow.ask(f"198.51.100.{number}", b"right") for number in range(10)]
        for task in guesses:
            task.add_done_callback(lambda _: ended.append("guess"))
        for task in honest:
            task.add_done_callback(lambda _: ended.append("honest"))
        await asyncio.sleep(0)
        with pytest.raises(TooMany):
            await slow.ask("198.51.100.10")
        slow.go.set()
        await asyncio.gather(*guesses, *honest)
        assert ended.index("honest") == 1  # behind the guess that was under way
        assert ended.count("guess") - ended[11:].count("guess") <= 2
        assert slow.passwords._suspects == 0

    asyncio.run(body())


@pytest.mark.parametrize("failed", [False, True])
def test_who_has_waited_for_too_long_is_not_compared_any_more(monkeypatch: pytest.MonkeyPatch, failed: bool) -> None:
    async def body() -> None:
        slow = Slow(monkeypatch)
        waiting = [slow.ask(f"192.0.2.{number}", failed=failed) for number in range(9)]
        await asyncio.sleep(0)
        slow.now += worker.PATIENCE_S + 0.1
        waiting.append(slow.ask("192.0.2.9", failed=failed))
        await asyncio.sleep(0)
        slow.go.set()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert outcomes[0] is outcomes[9] is False
        assert all(isinstance(one, TooMany) for one in outcomes[1:9])
        assert slow.compared == 2

    asyncio.run(body())


def test_the_loop_goes_on_while_a_password_is_hashed() -> None:
    async def body() -> None:
        passwords = ChosenPasswords()
        hashing = asyncio.create_task(passwords.hashed([PASSWORD] * 3))
        turns = 0
        while not hashing.done():
            turns += 1
            await asyncio.sleep(0)
        assert turns > 3  # on the loop there would be one
        assert all(is_password_of(one, PASSWORD.encode()) for one in await hashing)
        passwords.close()

    asyncio.run(body())


# ---------------------------------------------------------------- devices


class Door:
    """An installation with a device whose password somebody has chosen."""

    def __init__(self, upper: Upper) -> None:
        self.pauses: list[float] = []
        self.enter(upper)

    def enter(self, upper: Upper) -> None:
        self.upper = upper
        self.devices = upper.directory.devices
        self.port = DirectoryAuthenticator(
            upper.directory, monotonic=lambda: upper.clock.monotonic / 10**9, sleep=self._pause
        )

    async def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)

    async def register(self, user_name: str = USER, device_id: str = "boiler") -> Device:
        login = OwnLogin(user_name, D, hash_chosen(PASSWORD.encode()))
        described = DeviceDescription("Boiler", "sensor", device_id=device_id, login=login)
        device, password = await self.devices.create(1, described, NOW_S)
        assert password == ""
        return device

    async def come(self, password: str = PASSWORD, user_name: str = USER) -> Grant | Refusal:
        return await self.port.authenticate(ConnectRequest(0, "192.0.2.1", 4, "c", user_name, password.encode()))


def run(body: Callable[[Door], Awaitable[None]]) -> None:
    async def whole() -> None:
        upper = Upper()
        await upper.bootstrap()
        door = Door(upper)
        await body(door)
        door.upper.directory.chosen_passwords.close()

    asyncio.run(whole())


def code(outcome: Grant | Refusal) -> ReasonCode | None:
    return outcome.reason_code if isinstance(outcome, Refusal) else None


def test_a_chosen_password_lets_in_and_nothing_else_does() -> None:
    async def body(door: Door) -> None:
        device = await door.register()
        for _ in range(2):
            granted = await door.come()
            assert isinstance(granted, Grant)
            assert (granted.device_id, granted.credential) == ("boiler", D)
        for wrong in ("", "wrong", D.decode(), device.chosen_hash, PASSWORD + " "):
            assert code(await door.come(wrong)) == ReasonCode.NOT_AUTHORIZED
        assert door.pauses
        assert code(await door.come(user_name="boiler")) == ReasonCode.NOT_AUTHORIZED
        assert PASSWORD.encode() not in b"".join(value for _, value in door.upper.store.load("devices"))
        door.enter(door.upper.restart())
        assert isinstance(await door.come(), Grant)

    run(body)


def test_what_ends_a_password_ends_a_chosen_one() -> None:
    async def body(door: Door) -> None:
        await door.register()
        await door.come()
        await door.devices.change(1, "boiler", DeviceChange(active=False), NOW_S)
        assert D in door.upper.core.removed
        assert code(await door.come()) == ReasonCode.NOT_AUTHORIZED
        await door.devices.change(1, "boiler", DeviceChange(active=True), NOW_S)
        assert isinstance(await door.come(), Grant)
        await door.upper.directory.set_suspended(1, True)
        assert code(await door.come()) == ReasonCode.NOT_AUTHORIZED
        await door.upper.directory.set_suspended(1, False)
        door.upper.core.removed.clear()
        _, drawn = await door.devices.rotate(1, "boiler", 60, NOW_S)
        assert isinstance(await door.come(), Grant)  # for the overlap
        assert isinstance(await door.come(drawn), Grant)
        door.devices.end_overlaps(NOW_S + 61)
        await asyncio.gather(*door.devices._changing)
        assert D in door.upper.core.removed
        assert code(await door.come()) == ReasonCode.NOT_AUTHORIZED
        device = door.devices.get(1, "boiler")
        assert (device.chosen_hash, device.chosen_digest) == ("", b"")
        assert isinstance(await door.come(drawn), Grant)

    run(body)


def test_a_rotation_without_an_overlap_takes_the_hash_off_the_disk() -> None:
    async def body(door: Door) -> None:
        device = await door.register()
        await door.devices.rotate(1, "boiler", 0, NOW_S)
        assert device.chosen_hash.encode() not in dict(door.upper.store.load("devices")).popitem()[1]
        assert code(await door.come()) == ReasonCode.NOT_AUTHORIZED

    run(body)


def test_who_may_not_come_in_anyway_costs_nothing_and_a_deletion_meanwhile_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def body(door: Door) -> None:
        await door.register()
        compare = door.upper.directory.chosen_passwords.is_right
        asked: list[Proof] = []

        async def seen(proof: Proof, *, failed_lately: bool) -> bool:
            asked.append(proof)
            await door.devices.delete(1, "boiler")
            return await compare(proof, failed_lately=failed_lately)

        monkeypatch.setattr(door.upper.directory.chosen_passwords, "is_right", seen)
        await door.devices.change(1, "boiler", DeviceChange(active=False), NOW_S)
        assert code(await door.come()) == ReasonCode.NOT_AUTHORIZED
        assert asked == []
        await door.devices.change(1, "boiler", DeviceChange(active=True), NOW_S)
        assert code(await door.come()) == ReasonCode.NOT_AUTHORIZED
        assert len(asked) == 1

    run(body)


def test_who_is_told_to_come_again_has_not_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(door: Door) -> None:
        await door.register()

        async def full(proof: Proof, *, failed_lately: bool) -> bool:
            raise TooMany

        with monkeypatch.context() as patched:
            patched.setattr(door.upper.directory.chosen_passwords, "is_right", full)
            for _ in range(9):
                assert code(await door.come()) == ReasonCode.SERVER_BUSY
        assert door.pauses == []
        assert isinstance(await door.come(), Grant)

    run(body)


def test_a_user_name_is_one_devices_in_the_whole_installation() -> None:
    async def body(door: Door) -> None:
        await door.register()
        other = await door.upper.directory.accounts.create("other", NOW_S)
        described = DeviceDescription("Twin", "sensor", device_id="twin", login=OwnLogin(USER))
        for account_id in (1, other.account_id):
            with pytest.raises(Conflict):
                door.devices.begin(account_id, described, NOW_S)
        newcomer = door.devices.begin(1, replace(described, login=OwnLogin("new")), NOW_S)
        with pytest.raises(Conflict):
            door.devices.begin(other.account_id, replace(described, login=OwnLogin("new")), NOW_S)
        newcomer.release()
        device, password = await door.devices.create(1, replace(described, login=OwnLogin("new")), NOW_S)
        assert device.user_name == "new"
        assert isinstance(await door.come(password, "new"), Grant)

    run(body)
