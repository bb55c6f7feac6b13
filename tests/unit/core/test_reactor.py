"""The reactor without a socket: rounds come when something asks for them, connections are local, time is moved."""

from __future__ import annotations

import asyncio
import resource
import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from broker._core.packets import decode, encode
from broker._core.reactor import Reactor
from broker.engine.core import RarePacket
from broker.ports import Grant, Policy
from broker.reasons import ReasonCode
from broker.wire import Connack, Connect, Disconnect, Packet, Pingreq, Pingresp, Publish, Subscribe, Subscription
from tests.support.core import Core
from tests.support.doors import opened

LOCAL_LISTENER = 255
SECOND_NS = 1_000_000_000
MANY = 100  # to whom it is worth waiting for more


class Rounds:
    """A reactor whose rounds run when the test says so, over the shard and engine of a ``Core``."""

    def __init__(self, **limits: int) -> None:
        self.core = Core(**limits)
        self.told: list[set[int]] = []
        self.due: list[Callable[[], None]] = []
        self.listeners: list[int] = []
        self.reactor = Reactor(
            self.core.shard,
            on_rare=self._on_rare,
            on_batch=self.core.seal,
            again=self.due.append,
            on_local=self.told.append,
        )

    def _on_rare(self, rare: list[RarePacket]) -> None:
        self.listeners += [one[4] for one in rare]
        self.core.engine.answer(rare)

    def run(self) -> None:
        """All rounds that have been asked for, and those that they ask for."""
        for _ in range(1000):
            if not self.due:
                return
            self.due.pop(0)()
        raise AssertionError("the reactor never comes to rest")

    def enter(self, client_id: str = "inside", **fields: int) -> int:
        """A local connection that was let in."""
        handle = self.reactor.open_local()
        self.reactor.feed_local(handle, encode(Connect(client_id, **fields), 5))
        self.run()
        ((asked, _),) = self.core.asked
        self.core.asked.clear()
        policy = Policy("all", ("#",), ("#",))
        self.core.engine.judged(asked, Grant(1, 900 + handle % 100, "inside", "", policy))
        self.reactor.soon()
        self.run()
        assert isinstance(self.take(handle), Connack)
        return handle

    def take(self, handle: int) -> Packet:
        """The one packet that waits."""
        return decode(self.reactor.take_local(handle, -1), 5, from_client=False)


@pytest.fixture
def rounds() -> Iterator[Rounds]:
    one = Rounds()
    yield one
    one.reactor.close()


def test_another_thread_wakes_it() -> None:
    async def woken() -> None:
        loop = asyncio.get_running_loop()
        shard = Core().shard
        reactor = Reactor(shard, on_rare=lambda _: None, on_batch=lambda: None, again=loop.call_soon)
        round_done = asyncio.Event()

        def on_ready() -> None:
            reactor.on_ready()
            round_done.set()

        loop.add_reader(reactor.fileno(), on_ready)
        try:
            before = reactor.figures()["rounds"]
            thread = threading.Thread(target=reactor.wake)
            thread.start()
            async with asyncio.timeout(10):
                await round_done.wait()
            thread.join()
            assert reactor.figures()["rounds"] == before + 1
        finally:
            loop.remove_reader(reactor.fileno())
            reactor.close()

    asyncio.run(woken())


def test_a_local_connection_goes_through_the_same_core_and_python_is_told_of_its_output(rounds: Rounds) -> None:
    handle = rounds.enter()
    assert rounds.listeners == [LOCAL_LISTENER]
    rounds.told.clear()
    rounds.reactor.feed_local(handle, encode(Subscribe(1, (Subscription("a"),)), 5))
    rounds.run()
    assert rounds.told == [{handle}]
    rounds.reactor.take_local(handle, -1)
    rounds.core.shard.publish(1, b"a", b"x", 0, rounds.reactor.now_ns())
    rounds.reactor.soon()
    rounds.run()
    assert rounds.take(handle) == Publish("a", b"x")


def test_a_local_connection_that_nobody_reads_does_not_spin_the_reactor(rounds: Rounds) -> None:
    handle = rounds.enter()
    rounds.reactor.feed_local(handle, encode(Pingreq(), 5))
    rounds.run()  # comes to rest
    before = rounds.reactor.figures()["rounds"]
    rounds.reactor.on_ready()
    assert rounds.told[-1] == {handle}
    assert not rounds.due
    assert rounds.reactor.figures()["rounds"] == before + 1
    assert rounds.take(handle) == Pingresp()


def test_a_local_connection_that_the_core_closes_stays_until_its_last_bytes_were_read(rounds: Rounds) -> None:
    handle = rounds.enter()
    rounds.told.clear()
    rounds.core.shard.fail_all(ReasonCode.SERVER_SHUTTING_DOWN)
    rounds.reactor.soon()
    rounds.run()
    assert handle in set().union(*rounds.told)
    assert not rounds.core.shard.is_open(handle)
    with pytest.raises(LookupError):
        rounds.reactor.feed_local(handle, b"\xc0\x00")
    assert rounds.take(handle) == Disconnect(ReasonCode.SERVER_SHUTTING_DOWN)
    for _ in range(2):
        rounds.reactor.close_local(handle)
        rounds.run()
    assert rounds.core.figures() == rounds.core.base


def test_no_limit_of_connections_keeps_the_process_itself_out() -> None:
    rounds = Rounds(connections_maximum=1, unauthenticated_connections_maximum=1)
    assert rounds.core.shard.open_connection(0, rounds.reactor.now_ns())
    assert rounds.core.shard.open_connection(0, rounds.reactor.now_ns()) == 0
    rounds.enter()
    rounds.reactor.close()


def test_a_local_connection_that_has_to_wait_is_told_when_it_may_go_on(rounds: Rounds) -> None:
    handle = rounds.enter()
    rounds.told.clear()
    assert rounds.reactor.feed_local(handle, encode(Subscribe(1, (Subscription("a"),)), 5)) is False
    rounds.run()
    assert rounds.told == [{handle}]
    assert rounds.reactor.feed_local(handle, encode(Pingreq(), 5)) is True


def test_a_local_connection_has_no_keep_alive(rounds: Rounds) -> None:
    handle = rounds.enter(keep_alive_s=5)
    rounds.reactor.advance(3600 * SECOND_NS)
    assert rounds.core.shard.is_open(handle)


def test_deadlines_fire_in_their_own_time_when_the_clock_is_moved_far(rounds: Rounds) -> None:
    started = rounds.reactor.now_ns()
    handle = rounds.core.shard.open_connection(0, started)
    rounds.reactor.advance(9 * SECOND_NS)
    assert rounds.core.shard.is_open(handle)
    rounds.reactor.advance(2 * SECOND_NS)
    assert not rounds.core.shard.is_open(handle)
    assert 11 * SECOND_NS <= rounds.reactor.now_ns() - started < 21 * SECOND_NS


def test_time_does_not_go_back(rounds: Rounds) -> None:
    with pytest.raises(ValueError, match="back"):
        rounds.reactor.advance(-1)


def test_a_glance_in_the_middle_of_other_work_does_what_a_round_does(rounds: Rounds) -> None:
    handle = rounds.enter()
    rounds.reactor.feed_local(handle, encode(Pingreq(), 5))
    due, rounds.due[:] = list(rounds.due), []
    rounds.reactor.glance()
    assert isinstance(rounds.take(handle), Pingresp)
    rounds.due += due  # the round that was asked for comes too, and finds nothing to do
    rounds.run()


@pytest.mark.parametrize(("is_glance", "sleeps"), [(False, True), (True, False)])
def test_a_round_may_wait_for_more_to_send_to_many_and_a_glance_never_does(is_glance: bool, sleeps: bool) -> None:
    with opened() as doors, ExitStack() as sockets:
        address = "127.0.0.1", doors.listen()
        clients = [sockets.enter_context(socket.create_connection(address)) for _ in range(MANY)]
        for number, client in enumerate(clients):
            subscribe = encode(Subscribe(1, (Subscription("a"),)), 5)
            client.sendall(encode(Connect(f"one of many {number}"), 5) + subscribe)
        doors.until(lambda: all(select.select([client], [], [], 0)[0] for client in clients))
        doors.until(lambda: doors.core.shard.counters()["subscriptions"] == MANY)
        clients[0].sendall(encode(Publish("a", b"1"), 5))
        assert select.select([doors.reactor.fileno()], [], [], 10)[0]
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
        (doors.reactor.glance if is_glance else doors.reactor.on_ready)()
        assert (resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw > before) is sleeps


def test_a_glance_from_within_a_round_does_nothing(rounds: Rounds) -> None:
    seen: list[int] = []

    def on_rare(rare: list[RarePacket]) -> None:
        before = rounds.reactor.figures()["rounds"]
        rounds.reactor.glance()
        seen.append(rounds.reactor.figures()["rounds"] - before)
        rounds.core.engine.answer(rare)

    reactor = Reactor(rounds.core.shard, on_rare=on_rare, on_batch=rounds.core.seal, again=rounds.due.append)
    rounds.reactor.close()
    rounds.reactor = reactor
    reactor.feed_local(reactor.open_local(), encode(Connect("inside"), 5))
    rounds.run()
    assert seen == [0]
