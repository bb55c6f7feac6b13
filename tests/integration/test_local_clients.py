"""Publish and subscribe from inside the process: what any client gets, nothing left behind, bounded memory."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from broker import (
    BadRequest,
    Broker,
    BrokerConfig,
    BrokerStopped,
    DropReason,
    Message,
    MessageStream,
    PublishRefused,
    ReasonCode,
    SubscriptionEnded,
)
from broker.errors import NotFound, PayloadTooLarge, WrongThread
from broker.ports import LOCAL_PRINCIPALS, OWN_PRINCIPALS
from broker.wire import Subscription
from tests.integration.embedded import LOOPS, NewLoop, config, in_thread, port, run
from tests.integration.wire import CONNACK, PUBLISH, V5, V311, Client, connect, puback, publish

Body = Callable[[Broker], Awaitable[Any]]


def inside(tmp_path: Path, body: Body, new_loop: NewLoop = asyncio.new_event_loop, **more: Any) -> None:
    """Run a body with an open broker, which must leave nothing behind."""

    async def whole() -> None:
        async with Broker(config(tmp_path / "data", open_mode=True).model_copy(update=more)) as broker:
            await body(broker)

    run(new_loop, whole)


async def take(stream: MessageStream, count: int) -> list[Message]:
    async with asyncio.timeout(10):
        return [await anext(stream) for _ in range(count)]


async def connections(broker: Broker) -> int:
    """How many connections the core has, when it has come to rest."""
    gc.collect()
    for _ in range(5):
        await asyncio.sleep(0.01)
    return int(broker._reactor.shard.counters()["connections"])  # type: ignore[arg-type]


# ---------------------------------------------------------------- nothing is left behind


def test_a_subscription_that_cannot_be_asked_for_leaves_no_connection(tmp_path: Path) -> None:
    async def body(broker: Broker) -> None:
        before = await connections(broker)
        for wrong in (Subscription("a", 7), Subscription("a", 1, retain_handling=9)):
            with pytest.raises(BadRequest):
                broker.subscribe(wrong)
        assert await connections(broker) == before

    inside(tmp_path, body)


def test_a_publishers_connection_that_was_cut_is_forgotten_for_the_next_one(tmp_path: Path) -> None:
    async def body(broker: Broker) -> None:
        local = broker._local
        assert local is not None
        for _ in range(3):
            await broker.publish("a", b"x", qos=1)
            (publisher,) = local._publishers.values()
            broker._reactor.shard.fail_connection(publisher._link.handle, ReasonCode.ADMINISTRATIVE_ACTION)
        await broker.publish("a", b"x", qos=1)
        assert len(local._links) == 1

    inside(tmp_path, body)


def test_numbers_that_nobody_can_have_reach_nobody(tmp_path: Path) -> None:
    async def body(broker: Broker) -> None:
        for number in (-1, 2**32):
            with pytest.raises(NotFound):
                await broker.publish("a", b"x", account=number)
        async with broker.subscribe("a") as messages:
            for behind in (-OWN_PRINCIPALS, LOCAL_PRINCIPALS - OWN_PRINCIPALS, 2**40):
                broker.revoke(behind)  # the open listener's principal; the subscription's own; nobody's
            await broker.publish("a", b"x", qos=1)
            assert [one.payload for one in await take(messages, 1)] == [b"x"]

    inside(tmp_path, body)


# ---------------------------------------------------------------- publish


@LOOPS
def test_what_the_program_publishes_reaches_clients_and_what_they_publish_reaches_it(
    tmp_path: Path, new_loop: NewLoop
) -> None:
    async def body(broker: Broker) -> None:
        number = port(broker)

        def enter() -> Client:
            client = Client(number, V311)
            client.send(connect(V311, "device"))
            client.expect(CONNACK)
            assert client.subscribe("down/#") == [1]
            return client

        client = await in_thread(enter)
        async with broker.subscribe("up/#") as messages:
            assert await broker.publish("down/1", "né", qos=1) is ReasonCode.SUCCESS
            got = await in_thread(lambda: client.expect(PUBLISH))
            assert (got.topic_name, got.payload(V311)) == ("down/1", "né".encode())
            await in_thread(lambda: client.send(puback(got.packet_id)))
            await in_thread(lambda: client.publish_qos1("up/1", b"21.5"))
            assert await take(messages, 1) == [Message("up/1", b"21.5", qos=1)]
        client.close()

    inside(tmp_path, body, new_loop)


def test_properties_reach_the_subscriber_as_they_were_given(tmp_path: Path) -> None:
    async def body(broker: Broker) -> None:
        async with broker.subscribe("a") as messages:
            await broker.publish(
                "a",
                json.dumps({"c": 21.5}),
                properties={
                    "content_type": "application/json",
                    "response_topic": "b",
                    "correlation_data": b"7",
                    "message_expiry_interval": 60,
                    "user_property": [("k", "1"), ("k", "2")],
                },
            )
            (message,) = await take(messages, 1)
        assert message.json() == {"c": 21.5}
        assert (message.content_type, message.response_topic, message.correlation_data) == (
            "application/json",
            "b",
            b"7",
        )
        assert message.user_properties == (("k", "1"), ("k", "2"))
        assert message.message_expiry_interval_s == 60

    inside(tmp_path, body)


def test_qos_2_goes_through_both_ways_and_a_cancelled_wait_does_not_break_the_exchange(tmp_path: Path) -> None:
    async def body(broker: Broker) -> None:
        async with broker.subscribe("a", buffer=3) as messages:
            for number in range(300):  # more than the window has places
                task = asyncio.create_task(broker.publish("a", str(number), qos=2))
                if number % 3 == 1:  # it is with the core already
                    await asyncio.sleep(0)
                    task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                (message,) = await take(messages, 1)
                assert (message.payload, message.qos) == (str(number).encode(), 2)
            assert messages.dropped == {}
            assert await broker.publish("nobody", b"", qos=2) is ReasonCode.NO_MATCHING_SUBSCRIBERS

    inside(tmp_path, body)


def test_a_message_of_qos_1_that_reaches_nobody_says_so(tmp_path: Path) -> None:
    async def body(broker: Broker) -> None:
        assert await broker.publish("nobody", b"", qos=1) is ReasonCode.NO_MATCHING_SUBSCRIBERS
        assert await broker.publish("nobody", b"", qos=0) is ReasonCode.SUCCESS

    inside(tmp_path, body)


@pytest.mark.parametrize(
    ("topic_name", "payload", "more", "named"),
    [
        ("a/+", b"", {}, "topic name"),
        ("", b"", {}, "topic name"),
        ("a\0", b"", {}, "topic name"),
        ("a", {"c": 1}, {}, "json.dumps"),
        ("a", 5, {}, "bytes or str"),
        ("a", b"", {"qos": 3}, "0, 1 or 2"),
        ("a", b"", {"properties": {"topic_alias": 1}}, "message_expiry_interval"),
        ("a", b"", {"properties": {"message_expiry_interval": -1}}, "message_expiry_interval"),
        ("a", b"", {"properties": {"content_type": 5}}, "content_type"),
    ],
)
def test_a_publish_that_cannot_be_says_what_is_wrong_and_disturbs_nothing(
    tmp_path: Path, topic_name: str, payload: Any, more: dict[str, Any], named: str
) -> None:
    async def body(broker: Broker) -> None:
        await broker.publish("a", b"before", qos=1)
        with pytest.raises(BadRequest, match=named):
            await broker.publish(topic_name, payload, **{"qos": 1, **more})
        assert await connections(broker) == 1
        await broker.publish("a", b"after", qos=1)

    inside(tmp_path, body)


def test_a_payload_over_the_limit_is_refused_with_the_limit(tmp_path: Path) -> None:
    async def body(broker: Broker) -> None:
        with pytest.raises(PayloadTooLarge, match="1048576"):
            await broker.publish("a", bytes(1024 * 1024 + 1))

    inside(tmp_path, body)


def test_ten_thousand_publishes_at_once_wait_for_the_window_and_keep_their_order(tmp_path: Path) -> None:
    async def body(broker: Broker) -> None:
        async with broker.subscribe("a", buffer=1000) as messages:
            async with asyncio.TaskGroup() as tasks:
                reading = tasks.create_task(take(messages, 10_000))
                for number in range(10_000):
                    tasks.create_task(broker.publish("a", str(number), qos=1))
            assert [int(one.payload) for one in reading.result()] == list(range(10_000))

    inside(tmp_path, body)


def test_a_cancelled_publish_neither_loses_a_place_in_the_window_nor_harms_the_next(tmp_path: Path) -> None:
    async def body(broker: Broker) -> None:
        for _ in range(600):  # more than the window has places
            task = asyncio.create_task(broker.publish("a", b"x", qos=1))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        async with asyncio.timeout(10):
            await broker.publish("a", b"x", qos=1)

    inside(tmp_path, body)


def test_a_fan_out_to_many_holds_its_publisher_and_nobody_else(tmp_path: Path) -> None:
    async def body(broker: Broker) -> None:
        streams = [broker.subscribe("a") for _ in range(300)]
        for number in range(20):
            await broker.publish("a", str(number), qos=number % 2)
        for stream in streams:
            assert [int(one.payload) for one in await take(stream, 20)] == list(range(20))

    inside(tmp_path, body)


# ---------------------------------------------------------------- subscribe


@LOOPS
def test_a_subscription_is_in_effect_when_subscribe_returns_and_ends_with_its_last_holder(
    tmp_path: Path, new_loop: NewLoop
) -> None:
    async def body(broker: Broker) -> None:
        stream = broker.subscribe("a")
        await broker.publish("a", b"x")
        assert (await take(stream, 1))[0].payload == b"x"
        del stream
        assert await connections(broker) == 1  # the publisher
        await broker.publish("a", b"y", qos=1)

    inside(tmp_path, body, new_loop)


def test_a_loop_that_is_left_early_ends_its_subscription(tmp_path: Path) -> None:
    async def body(broker: Broker) -> None:
        async def publishing() -> None:
            await asyncio.sleep(0.01)  # until somebody waits
            assert await broker.publish("a", b"x", qos=1) is ReasonCode.SUCCESS

        task = asyncio.create_task(publishing())
        async for message in broker.subscribe("a"):
            assert message.payload == b"x"
            break
        await task
        assert await connections(broker) == 1
        assert await broker.publish("a", b"y", qos=1) is ReasonCode.NO_MATCHING_SUBSCRIBERS

    inside(tmp_path, body)


def test_several_filters_are_one_subscription_and_options_may_be_given(tmp_path: Path) -> None:
    async def body(broker: Broker) -> None:
        async with broker.subscribe("a/+", Subscription("b", qos=0)) as messages:
            await broker.publish("a/1", b"1", qos=1)
            await broker.publish("b", b"2", qos=1)
            await broker.publish("c", b"3", qos=1)
            assert [(one.payload, one.qos) for one in await take(messages, 2)] == [(b"1", 1), (b"2", 0)]
            assert messages.topic_filters == ("a/+", "b")

    inside(tmp_path, body)


@pytest.mark.parametrize(("filters", "named"), [((), "devices/#"), (("a/#/b",), "a/#/b"), (("",), "topic filter")])
def test_a_subscription_that_cannot_be_says_what_is_wrong_at_once(
    tmp_path: Path, filters: tuple[str, ...], named: str
) -> None:
    async def body(broker: Broker) -> None:
        with pytest.raises(BadRequest, match=named):
            broker.subscribe(*filters)
        with pytest.raises(BadRequest, match="buffer"):
            broker.subscribe("a", buffer=0)
        assert await connections(broker) == 0

    inside(tmp_path, body)


def test_a_retained_message_is_there_for_who_subscribes_later_until_it_is_cleared(tmp_path: Path) -> None:
    async def body(broker: Broker) -> None:
        await broker.publish("state", b"open", qos=1, retain=True, properties={"content_type": "text/plain"})
        async with broker.subscribe("#") as messages:
            (message,) = await take(messages, 1)
            assert (message.payload, message.retain, message.content_type) == (b"open", True, "text/plain")
            await broker.publish("state", b"closed", qos=1, retain=True)
            assert [(one.payload, one.retain) for one in await take(messages, 1)] == [(b"closed", False)]
        async with broker.subscribe(Subscription("#", retain_handling=2)) as messages:
            await broker.publish("state", b"", qos=1, retain=True)
            assert [one.payload for one in await take(messages, 1)] == [b""]
        async with broker.subscribe("#") as messages:
            await broker.publish("other", b"x", qos=1)
            assert [one.topic_name for one in await take(messages, 1)] == ["other"]

    inside(tmp_path, body)


def test_tasks_share_the_work_of_a_shared_subscription_and_what_one_leaves_behind_goes_to_another(
    tmp_path: Path,
) -> None:
    async def body(broker: Broker) -> None:
        second = broker.subscribe("$share/workers/jobs", buffer=10)
        async with broker.subscribe("$share/workers/jobs", buffer=10) as first:
            for number in range(20):
                await broker.publish("jobs", str(number), qos=1)
            mine = await take(first, 10)
            theirs = await take(second, 1)  # and leaves before it has said that this one is done
            with pytest.raises(ZeroDivisionError):
                async with second:
                    raise ZeroDivisionError
            rest = await take(first, 10)
            assert sorted(int(one.payload) for one in mine + rest) == list(range(20))
            assert theirs[0].payload in [one.payload for one in rest]

    inside(tmp_path, body)


def test_thousands_of_retained_messages_come_in_pages_and_none_is_missing(tmp_path: Path) -> None:
    async def body(broker: Broker) -> None:
        for number in range(3000):
            await broker.publish(f"state/{number}", str(number), qos=number % 3, retain=True)
        async with broker.subscribe("state/#", buffer=10) as messages:
            found = sorted([int(one.payload) for one in await take(messages, 3000)])
            assert found == list(range(3000))
            assert messages.dropped == {}

    inside(tmp_path, body)


def test_a_message_is_acknowledged_when_the_next_is_asked_for(tmp_path: Path) -> None:
    async def body(broker: Broker) -> None:
        def inflight() -> int:
            described = broker._reactor.shard.describe(messages._link.handle)
            assert described is not None
            return described["outbound_inflight"]

        async with broker.subscribe("a", buffer=10) as messages:
            for number in range(3):
                await broker.publish("a", str(number), qos=1)
            await take(messages, 1)
            assert inflight() == 3
            await take(messages, 1)
            assert inflight() == 2

    inside(tmp_path, body)


def test_a_slow_reader_gets_what_its_session_holds_and_the_rest_is_dropped_by_name(tmp_path: Path) -> None:
    queue = 50
    capabilities = config(tmp_path).capabilities.model_copy(update={"queue_messages_maximum": queue})

    async def body(broker: Broker) -> None:
        async with broker.subscribe("a", buffer=10) as slow, broker.subscribe("a", buffer=10) as quick:
            for number in range(100):
                await broker.publish("a", str(number), qos=1)
                await take(quick, 1)
            assert slow.dropped == {DropReason.QUEUE_FULL: 100 - 10 - queue}
            assert quick.dropped == {}
            assert [int(one.payload) for one in await take(slow, 10 + queue)] == list(range(10 + queue))

    inside(tmp_path, body, capabilities=capabilities)


def test_qos_0_that_nobody_reads_is_dropped_above_the_outbox_limit_and_counted(tmp_path: Path) -> None:
    capabilities = config(tmp_path).capabilities.model_copy(update={"outbox_soft_limit_bytes": 64 * 1024})

    async def body(broker: Broker) -> None:
        async with broker.subscribe("a") as messages:
            for _ in range(1000):
                await broker.publish("a", bytes(1000))
            lost = messages.dropped[DropReason.OUTBOX_FULL]
            assert 900 < lost < 1000
            await take(messages, 1000 - lost)
            await broker.publish("a", b"last")
            assert (await take(messages, 1))[0].payload == b"last"
        assert messages.dropped == {DropReason.OUTBOX_FULL: lost}

    inside(tmp_path, body, capabilities=capabilities)


def test_a_reader_that_never_waits_leaves_the_loop_to_others(tmp_path: Path) -> None:
    async def body(broker: Broker) -> None:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        async with broker.subscribe("a", buffer=1000) as messages:
            for number in range(640):
                await broker.publish("a", str(number), qos=1)
            task = asyncio.create_task(other())
            await take(messages, 640)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert turns >= 9

    inside(tmp_path, body)


def test_a_publisher_that_never_waits_leaves_the_loop_to_its_readers(tmp_path: Path) -> None:
    async def body(broker: Broker) -> None:
        async def publishing() -> None:
            for number in range(20_000):
                await broker.publish("a", str(number).rjust(200))

        async with broker.subscribe("a") as messages:  # 4 MB in all, where an outbox takes one
            task = asyncio.create_task(publishing())
            assert [int(one.payload) for one in await take(messages, 20_000)] == list(range(20_000))
            await task
            assert messages.dropped == {}

    inside(tmp_path, body)


def test_two_tasks_cannot_read_one_subscription(tmp_path: Path) -> None:
    async def body(broker: Broker) -> None:
        async with broker.subscribe("a") as messages:
            reading = asyncio.create_task(take(messages, 1))
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="one of its own"):
                await anext(messages)
            await broker.publish("a", b"x")
            assert len(await reading) == 1

    inside(tmp_path, body)


def test_waiting_may_be_cut_short_and_nothing_is_lost(tmp_path: Path) -> None:
    async def body(broker: Broker) -> None:
        async with broker.subscribe("a") as messages:
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.01):
                        await anext(messages)
            await broker.publish("a", b"x", qos=1)
            assert (await take(messages, 1))[0].payload == b"x"

    inside(tmp_path, body)


def test_a_large_message_arrives_whole(tmp_path: Path) -> None:
    async def body(broker: Broker) -> None:
        async with broker.subscribe("a") as messages:
            payload = bytes(range(256)) * 4096
            await broker.publish("a", payload, qos=1)
            await broker.publish("a", b"next", qos=1)
            assert [one.payload for one in await take(messages, 2)] == [payload, b"next"]

    inside(tmp_path, body)


# ---------------------------------------------------------------- whose topics


def test_each_account_has_its_own_topics_and_is_found_by_name_or_number(tmp_path: Path) -> None:
    async def whole() -> None:
        async with Broker(config(tmp_path / "data")) as broker:
            other = await broker.admin.operator.create_account("other", "free")
            async with broker.subscribe("a", account="other") as theirs, broker.subscribe("a") as ours:
                await broker.publish("a", b"ours", qos=1)
                await broker.publish("a", b"default", qos=1, account="default")
                await broker.publish("a", b"theirs", qos=1, account="other")
                await broker.publish("a", b"theirs too", qos=1, account=other.account_id)
                assert [one.payload for one in await take(ours, 2)] == [b"ours", b"default"]
                assert [one.payload for one in await take(theirs, 2)] == [b"theirs", b"theirs too"]
            with pytest.raises(NotFound, match="nobody"):
                await broker.publish("a", account="nobody")
            with pytest.raises(NotFound, match="nobody"):
                broker.subscribe("a", account="nobody")

    run(asyncio.new_event_loop, whole)


# ---------------------------------------------------------------- the end


@LOOPS
def test_when_the_broker_stops_readers_get_what_had_come_and_then_a_clear_end(
    tmp_path: Path, new_loop: NewLoop
) -> None:
    async def whole() -> None:
        async with Broker(config(tmp_path / "data", open_mode=True)) as broker:
            unread, idle = broker.subscribe("a"), broker.subscribe("b")
            waiting = asyncio.create_task(take(idle, 1))
            await broker.publish("a", b"1", qos=1)
            await broker.publish("a", b"2", qos=0)
        with pytest.raises(BrokerStopped, match="has stopped"):
            await waiting
        assert [one.payload for one in await take(unread, 2)] == [b"1", b"2"]
        for _ in range(2):
            with pytest.raises(BrokerStopped):
                await anext(unread)
        with pytest.raises(BrokerStopped, match="async with"):
            await broker.publish("a", b"3")
        with pytest.raises(BrokerStopped, match="async with"):
            broker.subscribe("a")

    run(new_loop, whole)


def test_publishes_that_wait_when_the_broker_stops_are_told(tmp_path: Path) -> None:
    async def whole() -> None:
        async with Broker(config(tmp_path / "data", open_mode=True)) as broker:
            tasks = [asyncio.create_task(broker.publish("a", b"x", qos=1)) for _ in range(2000)]
            await asyncio.sleep(0)
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(one) for one in outcomes} <= {ReasonCode, BrokerStopped}
        assert BrokerStopped in {type(one) for one in outcomes}

    run(asyncio.new_event_loop, whole)


@pytest.mark.parametrize("qos", [1, 2])
def test_a_publisher_that_the_core_cuts_tells_all_who_wait_and_the_next_publish_goes_on(
    tmp_path: Path, qos: int
) -> None:
    async def body(broker: Broker) -> None:
        await broker.publish("a", b"x", qos=qos)
        tasks = [asyncio.create_task(broker.publish("a", b"x", qos=qos)) for _ in range(2000)]
        await asyncio.sleep(0)
        (publisher,) = (broker._local or pytest.fail("it runs"))._publishers.values()
        broker._reactor.shard.fail_connection(publisher._link.handle, ReasonCode.ADMINISTRATIVE_ACTION)
        broker._reactor.soon()
        async with asyncio.timeout(10):
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        refused = [one for one in outcomes if isinstance(one, PublishRefused)]
        assert refused
        assert {one.reason_code for one in refused} == {ReasonCode.ADMINISTRATIVE_ACTION}
        assert await broker.publish("a", b"x", qos=qos) is ReasonCode.NO_MATCHING_SUBSCRIBERS

    inside(tmp_path, body)


def test_a_subscription_that_the_broker_cuts_says_why(tmp_path: Path) -> None:
    async def body(broker: Broker) -> None:
        async with broker.subscribe("a") as messages:
            broker._reactor.shard.fail_connection(messages._link.handle, ReasonCode.ADMINISTRATIVE_ACTION)
            broker._reactor.soon()
            with pytest.raises(SubscriptionEnded, match="administrative action") as caught:
                await take(messages, 1)
            assert caught.value.reason_code is ReasonCode.ADMINISTRATIVE_ACTION

    inside(tmp_path, body)


def test_leaving_the_block_ends_the_iteration_for_a_reader_elsewhere(tmp_path: Path) -> None:
    async def body(broker: Broker) -> None:
        async with broker.subscribe("a") as messages:
            reading = asyncio.create_task(_all(messages))
            await broker.publish("a", b"x", qos=1)
            await asyncio.sleep(0.02)
        assert [one.payload for one in await reading] == [b"x"]

    inside(tmp_path, body)


async def _all(messages: MessageStream) -> list[Message]:
    return [one async for one in messages]


def test_another_thread_is_told_how_to_do_it_right(tmp_path: Path) -> None:
    async def body(broker: Broker) -> None:
        def elsewhere() -> None:
            with pytest.raises(WrongThread, match="run_coroutine_threadsafe"):
                broker.subscribe("a")

        await in_thread(elsewhere)
        loop = asyncio.get_running_loop()

        def right() -> ReasonCode:
            return asyncio.run_coroutine_threadsafe(broker.publish("a", qos=1), loop).result(10)

        assert await in_thread(right) is ReasonCode.NO_MATCHING_SUBSCRIBERS

    inside(tmp_path, body)


def test_before_its_start_a_broker_says_what_is_missing(tmp_path: Path) -> None:
    broker = Broker(BrokerConfig(data_dir=tmp_path))
    with pytest.raises(BrokerStopped, match="async with"):
        broker.subscribe("a")
    with pytest.raises(NotFound, match="does not run"):
        _ = broker.mqtt_url


def test_endpoints_are_found_by_name_and_as_urls(tmp_path: Path) -> None:
    async def body(broker: Broker) -> None:
        assert broker.mqtt_url == f"mqtt://127.0.0.1:{port(broker)}"
        assert broker.http_url == f"http://127.0.0.1:{port(broker, 'http')}"
        assert broker.endpoint() == broker.endpoint("mqtt")
        with pytest.raises(NotFound, match="mqtt, http"):
            broker.endpoint("mqtts")

    inside(tmp_path, body)


def test_a_client_that_uses_the_same_client_id_is_somebody_else(tmp_path: Path) -> None:
    async def body(broker: Broker) -> None:
        number = port(broker)
        stream = broker.subscribe("a")
        described = broker._reactor.shard.describe(stream._link.handle)
        assert described is not None

        def talk() -> None:
            with Client(number) as client:
                client.send(connect(V5, described["client_id"]) + publish(V5, "a", b"x"))
                client.expect(CONNACK)
                client.ping()

        await in_thread(talk)
        assert (await take(stream, 1))[0].payload == b"x"

    inside(tmp_path, body)
