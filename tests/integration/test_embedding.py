"""The broker inside somebody else's asyncio program, on either loop: it leaves nothing behind when it stops."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from broker import Broker
from broker.errors import ConfigError, DataDirLocked
from broker.ports import ConnectRequest, Durability, Grant, Policy, Refusal
from broker.reasons import ReasonCode
from tests.integration.embedded import LOOPS, NewLoop, config, in_thread, port, run
from tests.integration.wire import CONNACK, PUBLISH, V5, Client, connect, publish


@LOOPS
def test_a_broker_starts_serves_and_leaves_nothing_behind(tmp_path: Path, new_loop: NewLoop) -> None:
    async def body() -> None:
        async with Broker(config(tmp_path / "data")) as broker:
            assert broker.first_key is not None
            key, number = broker.first_key, port(broker)

            def talk() -> None:
                with Client(number) as client:
                    client.login("apikey", key)
                    assert client.subscribe("a") == [1]
                    assert client.publish_within("a", b"x") == [b"x"]

            await in_thread(talk)
        assert broker.endpoints == ()

    run(new_loop, body)


def test_no_file_is_left_but_what_the_next_start_needs(tmp_path: Path) -> None:
    async def body() -> None:
        async with Broker(config(tmp_path / "data")) as broker:
            await broker.publish("a", b"x", qos=1)
            assert (tmp_path / "data" / "endpoints.json").exists()

    run(asyncio.new_event_loop, body)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    own = {f"data/tls/{name}" for name in ("ca.pem", "ca.key", "server.pem")}
    assert left == {"data/lock", "data/secret", "data/store/data.mdb", "data/store/lock.mdb", *own}
    assert (tmp_path / "data" / "lock").read_bytes() == b""


@LOOPS
def test_clients_that_are_connected_at_the_end_are_told_and_leave_nothing_behind(
    tmp_path: Path, new_loop: NewLoop
) -> None:
    clients: list[Client] = []

    async def body() -> None:
        async with Broker(config(tmp_path / "data")) as broker:
            key, number = broker.first_key or "", port(broker)

            def talk() -> None:
                for count in range(20):
                    clients.append(Client(number).login("apikey", key, f"client-{count}"))
                clients.append(Client(number))

            await in_thread(talk)
        for client in clients[:-1]:
            await in_thread(lambda one=client: one.expect_closed(0x8B))
        for client in clients:
            client.close()

    run(new_loop, body)


@LOOPS
def test_two_brokers_in_one_process_know_nothing_of_each_other(tmp_path: Path, new_loop: NewLoop) -> None:
    async def body() -> None:
        async with Broker(config(tmp_path / "one")) as one, Broker(config(tmp_path / "two")) as two:
            assert not {end.port for end in one.endpoints} & {end.port for end in two.endpoints}
            first_key, second_key = one.first_key or "", two.first_key or ""
            numbers = port(one), port(two)

            def talk() -> None:
                with Client(numbers[0]) as here, Client(numbers[1]) as there, Client(numbers[1]) as stranger:
                    here.login("apikey", first_key)
                    there.login("apikey", second_key)
                    stranger.send(connect(V5, "x", "apikey", first_key))
                    stranger.expect_refused(0x87)
                    assert here.subscribe("#") == [1]
                    assert there.subscribe("#") == [1]
                    assert here.publish_within("a", b"here") == [b"here"]
                    assert there.publish_within("a", b"there") == [b"there"]

            await in_thread(talk)

    run(new_loop, body)


@LOOPS
def test_one_of_two_brokers_stops_and_the_other_goes_on(tmp_path: Path, new_loop: NewLoop) -> None:
    async def body() -> None:
        async with Broker(config(tmp_path / "one", open_mode=True)) as one:
            number = port(one)

            def enter() -> Client:
                client = Client(number)
                client.send(connect(V5, "stays"))
                assert client.expect(CONNACK).body[1] == 0
                return client

            client = await in_thread(enter)
            async with Broker(config(tmp_path / "two", open_mode=True)):
                pass
            await in_thread(client.ping)
            client.close()

    run(new_loop, body)


@LOOPS
def test_a_broker_can_be_started_again_and_again(tmp_path: Path, new_loop: NewLoop) -> None:
    keys: list[str | None] = []

    async def body() -> None:
        for _ in range(5):
            async with Broker(config(tmp_path / "data")) as broker:
                keys.append(broker.first_key)

    run(new_loop, body)
    assert keys[0] is not None
    assert keys[1:] == [None] * 4


@LOOPS
def test_a_start_that_fails_leaves_nothing_behind(tmp_path: Path, new_loop: NewLoop) -> None:
    async def body() -> None:
        async with Broker(config(tmp_path / "data")) as broker:
            with pytest.raises(DataDirLocked):
                await Broker(config(tmp_path / "data")).__aenter__()
            taken = config(tmp_path / "other").model_copy(
                update={"http": config(tmp_path).http.model_copy(update={"port": port(broker, "http")})}
            )
            with pytest.raises(ConfigError):
                await Broker(taken).__aenter__()
            async with Broker(config(tmp_path / "other")):
                pass

    run(new_loop, body)


@LOOPS
def test_an_error_inside_the_block_passes_through_and_the_broker_stops(tmp_path: Path, new_loop: NewLoop) -> None:
    async def body() -> None:
        with pytest.raises(ZeroDivisionError):
            async with Broker(config(tmp_path / "data")):
                raise ZeroDivisionError

    run(new_loop, body)


@LOOPS
def test_stop_and_signals_end_the_waiting_and_handlers_are_given_back(tmp_path: Path, new_loop: NewLoop) -> None:
    async def body() -> None:
        before = signal.getsignal(signal.SIGTERM)
        async with Broker(config(tmp_path / "data")) as broker:
            asyncio.get_running_loop().call_later(0.05, broker.stop)
            await asyncio.wait_for(broker.run_until_signal(), 10)
        async with Broker(config(tmp_path / "data")) as broker:
            asyncio.get_running_loop().call_later(0.05, os.kill, os.getpid(), signal.SIGTERM)
            await asyncio.wait_for(broker.run_until_signal(), 10)
        assert signal.getsignal(signal.SIGTERM) == before

    run(new_loop, body)


class ByName:
    """An authenticator of one's own: names that begin with ``ok`` are let in, ``slow`` waits, ``odd`` fails."""

    def __init__(self) -> None:
        self.asked: list[ConnectRequest] = []

    async def authenticate(self, request: ConnectRequest) -> Grant | Refusal:
        self.asked.append(request)
        name = request.user_name or ""
        if name == "odd":
            raise RuntimeError("the authenticator is broken")
        if name == "slow":
            await asyncio.sleep(3600)
        if not name.startswith("ok"):
            return Refusal(ReasonCode.NOT_AUTHORIZED)
        policy = Policy(name="own", publish=("t/#",), subscribe=("t/#",))
        return Grant(
            account_id=7, principal_id=70, principal=name, device_id="", policy=policy, durability=Durability.MEMORY
        )


@LOOPS
def test_an_authenticator_of_ones_own_decides_and_what_it_does_harms_nobody(
    tmp_path: Path, new_loop: NewLoop, caplog: pytest.LogCaptureFixture
) -> None:
    judge = ByName()

    async def body() -> None:
        async with Broker(config(tmp_path / "data"), authenticator=judge) as broker:
            number = port(broker)

            def talk() -> list[Client]:
                slow, odd, wrong, good = (Client(number) for _ in range(4))
                slow.send(connect(V5, "slow", "slow", "p"))
                odd.send(connect(V5, "odd", "odd", "p"))
                wrong.send(connect(V5, "wrong", "wrong", "p"))
                good.login("ok", "p")
                odd.expect_refused(0x88)
                wrong.expect_refused(0x87)
                assert good.subscribe("t/1", "x") == [1, 0x87]
                good.ping()
                assert good.publish_within("t/1", b"x") == [b"x"]
                return [slow, odd, wrong, good]

            clients = await in_thread(talk)
        clients[0].socket.settimeout(5)
        await in_thread(lambda: clients[0].read())  # refused as the server goes, or closed
        for client in clients:
            client.close()

    run(new_loop, body)
    assert "the authenticator failed" in caplog.text
    assert {one.user_name for one in judge.asked} == {"slow", "odd", "wrong", "ok"}


def test_answers_that_come_late_are_told_once_and_in_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = config(tmp_path / "data")
    settings = settings.model_copy(
        update={"capabilities": settings.capabilities.model_copy(update={"connect_timeout_s": 0.1})}
    )
    judge = ByName()

    async def body() -> None:
        async with Broker(settings, authenticator=judge) as broker:
            number = port(broker)

            def talk() -> None:
                for _ in range(5):
                    with Client(number) as client:
                        client.send(connect(V5, "slow", "slow", "p"))
                        while client.read() is not None:
                            pass

            await in_thread(talk)
            await asyncio.gather(*broker._judging.under_way)

    asyncio.run(body())
    assert len(judge.asked) == 5
    told = [one for one in caplog.records if "authenticator" in one.getMessage()]
    assert [one.getMessage() for one in told] == ["the authenticator did not answer within 0.1 s"]
    assert told[0].exc_info is None


@LOOPS
def test_a_busy_loop_delays_but_loses_nothing(tmp_path: Path, new_loop: NewLoop) -> None:
    async def body() -> None:
        async with Broker(config(tmp_path / "data", open_mode=True)) as broker:
            number = port(broker)

            def talk() -> None:
                with Client(number) as client:
                    client.send(connect(V5, "busy"))
                    client.expect(CONNACK)
                    assert client.subscribe("a", options=0) == [0]
                    for count in range(50):
                        client.send(publish(V5, "a", b"%d" % count))
                    assert [int(client.expect(PUBLISH).payload(V5)) for _ in range(50)] == list(range(50))

            async def hog() -> None:
                while True:
                    time.sleep(0.02)  # noqa: ASYNC251 - that is the point
                    await asyncio.sleep(0)

            busy = asyncio.create_task(hog())
            await in_thread(talk)
            busy.cancel()
            await asyncio.gather(busy, return_exceptions=True)

    run(new_loop, body)
