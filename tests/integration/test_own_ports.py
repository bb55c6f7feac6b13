"""An Authenticator and an Observer of one's own: whatever they do, everybody else is served as before."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from broker import Broker, ConnectRequest, Grant, Policy, ReasonCode, Refusal
from broker.observability.apart import ObserverApart
from broker.ports import LOCAL_PRINCIPALS, Observer
from tests.integration.embedded import LOOPS, NewLoop, config, in_thread, port, run
from tests.integration.wire import CONNACK, V5, Client, connect

WITHIN_S = 0.5
ALL = Policy("all", ("#",), ("#",))


class Judge:
    """Does what the user name says."""

    def __init__(self) -> None:
        self.hanging = 0

    async def authenticate(self, request: ConnectRequest) -> Grant | Refusal:
        name = request.user_name or ""
        if name == "hang":
            self.hanging += 1
            try:
                await asyncio.Event().wait()
            finally:
                self.hanging -= 1
        if name == "cancelled":
            raise asyncio.CancelledError
        if name == "none":
            return None  # type: ignore[return-value]
        if name == "taken":
            return Grant(7, LOCAL_PRINCIPALS + 1, name, "", ALL)
        if name == "huge":
            return Grant(7, 2**40, name, "", ALL)
        if name == "text":
            return Grant("7", 1, name, "", ALL)  # type: ignore[arg-type]
        return Grant(7, 70, name, "", ALL)


@LOOPS
def test_an_authenticator_that_hangs_is_given_up_and_leaves_no_task(tmp_path: Path, new_loop: NewLoop) -> None:
    judge = Judge()
    capabilities = config(tmp_path).capabilities.model_copy(update={"connect_timeout_s": 0.3})

    async def body() -> None:
        configured = config(tmp_path / "data").model_copy(update={"capabilities": capabilities})
        async with Broker(configured, authenticator=judge) as broker:
            number = port(broker)

            def talk() -> None:
                clients = [Client(number) for _ in range(20)]
                for client in clients[:-1]:
                    client.send(connect(V5, "hang", "hang", "p"))
                clients[-1].login("good", "p")
                for client in clients[:-1]:
                    client.expect_refused(0x88)
                clients[-1].ping()
                for client in clients:
                    client.close()

            await in_thread(talk)
            await asyncio.sleep(0.1)
            assert judge.hanging == 0
            assert not broker._judging.under_way

    run(new_loop, body)


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("none", 0x88, "has to return a Grant or a Refusal"),
        ("taken", 0x88, "principal_id: expected 0 to"),
        ("huge", 0x88, "principal_id: expected 0 to"),
        ("text", 0x83, "cannot be kept"),
    ],
)
def test_an_authenticator_that_answers_nonsense_refuses_that_client_alone(
    tmp_path: Path, name: str, code: int, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def body() -> None:
        async with Broker(config(tmp_path / "data"), authenticator=Judge()) as broker:
            number = port(broker)

            def talk() -> None:
                with Client(number) as odd, Client(number) as good:
                    odd.send(connect(V5, name, name, "p"))
                    odd.expect_refused(code)
                    good.login("good", "p")
                    good.ping()

            await in_thread(talk)

    run(asyncio.new_event_loop, body)
    assert words in caplog.text


def test_who_is_revoked_is_cut_at_once_with_session_and_will_and_nobody_else(tmp_path: Path) -> None:
    class ByNumber:
        async def authenticate(self, request: ConnectRequest) -> Grant | Refusal:
            return Grant(7, int(request.user_name or "0"), request.user_name or "", "", ALL)

    async def body() -> None:
        async with Broker(config(tmp_path / "data"), authenticator=ByNumber()) as broker:
            number = port(broker)

            def enter() -> list[Client]:
                found = [Client(number) for _ in range(2)]
                for count, client in enumerate(found, start=1):
                    client.login(str(count), "p", f"client-{count}")
                return found

            first, second = await in_thread(enter)
            broker.revoke(1)
            broker.revoke(99)
            await in_thread(lambda: first.expect_closed(ReasonCode.ADMINISTRATIVE_ACTION))
            await in_thread(second.ping)
            first.close()
            second.close()

    run(asyncio.new_event_loop, body)


class Odd:
    """An observer that records, and then does what it was told."""

    def __init__(self, *, raises: bool = False, pause_s: float = 0) -> None:
        self.raises = raises
        self.pause_s = pause_s
        self.events: list[tuple[str, dict[str, object]]] = []
        self.threads: set[str] = set()

    def event(self, name: str, **fields: object) -> None:
        self.events.append((name, fields))
        self.threads.add(threading.current_thread().name)
        time.sleep(self.pause_s)
        if self.raises:
            raise RuntimeError("the observer is broken")


def refused(number: int, count: int) -> None:
    """So many clients that are refused, each of them an event."""
    for _ in range(count):
        with Client(number) as client:
            client.send(connect(V5, "x" * 100, "nobody", "p"))
            client.expect_refused(0x87)


def while_observed(tmp_path: Path, observer: Observer, new_loop: NewLoop = asyncio.new_event_loop) -> None:
    async def body() -> None:
        async with Broker(config(tmp_path / "data"), observer=observer) as broker:
            key, number = broker.first_key or "", port(broker)

            def talk() -> None:
                with Client(number) as client:
                    client.login("apikey", key)
                    refused(number, 3)
                    started = time.monotonic()
                    client.ping()
                    assert time.monotonic() - started < WITHIN_S

            await in_thread(talk)

    run(new_loop, body)


@pytest.mark.alone
@LOOPS
def test_an_observer_is_told_from_a_thread_of_its_own_and_has_heard_all_when_the_broker_has_stopped(
    tmp_path: Path, new_loop: NewLoop
) -> None:
    observer = Odd()
    while_observed(tmp_path, observer, new_loop)
    assert [name for name, _ in observer.events] == ["connection_refused"] * 3
    assert observer.events[0][1]["reason_code"] == "0x87"
    assert observer.threads == {"observer"}


@pytest.mark.alone
def test_an_observer_that_raises_is_told_of_once_and_harms_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    observer = Odd(raises=True)
    while_observed(tmp_path, observer)
    assert len(observer.events) == 3
    assert caplog.text.count("the observer failed") == 1


@pytest.mark.alone
def test_an_observer_that_is_slow_delays_nobody(tmp_path: Path) -> None:
    observer = Odd(pause_s=0.25)
    while_observed(tmp_path, observer)
    assert len(observer.events) == 3


def test_an_observer_that_hangs_loses_events_and_the_broker_stops_without_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    go_on = threading.Event()

    class Hangs:
        def event(self, name: str, **fields: object) -> None:
            go_on.wait()

    async def whole() -> None:
        apart = ObserverApart(Hangs(), maximum=10)
        for _ in range(100):
            apart.event("x")
        assert apart.lost >= 89
        started = time.monotonic()
        await apart.close()
        assert time.monotonic() - started < 3

    asyncio.run(whole())
    assert "left behind" in caplog.text
    go_on.set()


def test_an_observer_whose_queue_is_full_at_the_end_hears_all_of_it_and_leaves_no_thread() -> None:
    observer = Odd(pause_s=0.02)

    async def whole() -> None:
        apart = ObserverApart(observer, maximum=5)
        for _ in range(100):
            apart.event("x")
        await apart.close()
        assert len(observer.events) + apart.lost == 100

    before = threading.active_count()
    asyncio.run(whole())
    assert threading.active_count() == before


def test_an_observer_may_be_anything_with_an_event(tmp_path: Path) -> None:
    seen: list[Any] = []

    class Plain:
        def event(self, name: str, /, **fields: object) -> None:
            seen.append(name)

    while_observed(tmp_path, Plain())
    assert seen


def test_a_judgement_that_is_cancelled_from_within_leaves_its_client_to_the_connect_timeout(tmp_path: Path) -> None:
    capabilities = config(tmp_path).capabilities.model_copy(update={"connect_timeout_s": 0.3})

    async def body() -> None:
        configured = config(tmp_path / "data").model_copy(update={"capabilities": capabilities})
        async with Broker(configured, authenticator=Judge()) as broker:
            number = port(broker)

            def talk() -> None:
                with Client(number) as odd, Client(number) as good:
                    odd.send(connect(V5, "odd", "cancelled", "p"))
                    good.send(connect(V5, "good", "good", "p"))
                    assert good.expect(CONNACK).body[1] == 0
                    odd.expect_refused(ReasonCode.SERVER_UNAVAILABLE)

            await in_thread(talk)

    run(asyncio.new_event_loop, body)
