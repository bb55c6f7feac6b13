"""``/metrics`` of a real broker: what it says after known traffic, and who may see it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

import api
from broker.admin import MetricsText
from broker.config import BrokerConfig
from broker.errors import BrokerStopped
from broker.runtime import Broker
from tests.integration.served import Served
from tests.integration.wire import V5, Client, publish
from tests.upper import Upper

TYPE = "text/plain; version=0.0.4; charset=utf-8"


def samples(text: str) -> dict[str, float]:
    """All samples by name, with their labels behind it; parsed as Prometheus' own library does."""
    return {
        sample.name + "".join(f" {value}" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scrape(served: Served) -> dict[str, float]:
    answer = served.http.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == TYPE
    return samples(answer.text)


def test_known_traffic_is_told(serve: Callable[..., Served]) -> None:
    served = serve()
    device = served.register()
    before = scrape(served)
    with Client(served.port()) as application, Client(served.port()) as sender:
        application.login("apikey", served.api_key)
        assert application.subscribe(device.topic("telemetry")) == [1]
        sender.login(device.username, device.password, device.device_id)
        for _ in range(10):
            sender.send(publish(V5, device.topic("telemetry"), b"x"))
            sender.send(publish(V5, "forbidden", b"x"))
        sender.ping()
        now = scrape(served)
    assert now["iot_broker_connections"] == now["iot_broker_sessions"] == 2
    assert now["iot_broker_subscriptions"] == 1
    assert now["iot_broker_messages_received_total"] - before["iot_broker_messages_received_total"] == 20
    assert now["iot_broker_messages_sent_total"] - before["iot_broker_messages_sent_total"] == 10
    assert now["iot_broker_dropped_messages_total not_authorized"] == 10
    assert now["iot_broker_received_bytes_total"] > now["iot_broker_sent_bytes_total"] > 0
    assert (now["iot_broker_devices"], now["iot_broker_accounts"], now["iot_broker_api_keys"]) == (1, 1, 1)
    assert now["iot_broker_store_commits_total"] > 0
    assert now["iot_broker_loop_hold_seconds_count"] > before["iot_broker_loop_hold_seconds_count"]
    assert now["process_resident_memory_bytes"] == pytest.approx(served.rss_bytes(), rel=0.2)


def test_no_account_device_or_key_is_named(serve: Callable[..., Served]) -> None:
    served = serve()
    device = served.register("Sensor of somebody")
    text = served.http.get("/metrics").text
    assert not any(word in text for word in (device.device_id, "Sensor of somebody", served.api_key, '"default"'))


def test_every_figure_of_a_real_broker_has_its_words_and_type(served: Served) -> None:
    text = served.http.get("/metrics").text
    typed = set(re.findall(r"^# TYPE (\S+) (?:counter|gauge|histogram)$", text, re.MULTILINE))
    assert typed == set(re.findall(r"^# HELP (\S+) \S.*\.$", text, re.MULTILINE))
    assert len(typed) > 30


@pytest.mark.parametrize("header", ["Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP"])
def test_a_request_that_a_proxy_passes_on_finds_no_such_path(served: Served, header: str) -> None:
    for value in ("for=192.0.2.7", "127.0.0.1"):
        assert served.http.get("/metrics", headers={header: value}).status_code == 404


def test_switched_off_there_is_no_such_path_and_anywhere_a_proxy_may_ask(serve: Callable[..., Served]) -> None:
    off = serve(environment={"IOT_BROKER_HTTP__METRICS": "off"})
    answer, unknown = off.http.get("/metrics"), off.http.get("/nothing")
    assert answer.status_code == unknown.status_code == 404
    assert answer.json() == unknown.json()
    anywhere = serve(environment={"IOT_BROKER_HTTP__METRICS": "anywhere"})
    assert anywhere.http.get("/metrics", headers={"X-Forwarded-For": "192.0.2.7"}).status_code == 200


@pytest.mark.parametrize(("address", "status"), [("127.0.0.1", 200), ("::1", 200), ("192.0.2.7", 404), ("", 404)])
def test_only_this_machine_is_told_by_default(address: str, status: int) -> None:
    async def body() -> int:
        upper = Upper()
        upper.admin = type(upper.admin)(
            upper.directory,
            upper.core,
            upper.core,
            upper.counting,
            upper.config,
            upper.clock,
            lambda: upper.endpoints,
            lambda: MetricsText(b"x 1\n", TYPE),
        )
        transport = httpx.ASGITransport(api.application(upper.admin, upper.clock), client=(address, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://broker") as http:
            return (await http.get("/metrics")).status_code

    assert asyncio.run(body()) == status


def test_several_brokers_in_one_process_tell_their_own_figures(tmp_path: Path) -> None:
    def config(name: str) -> BrokerConfig:
        return BrokerConfig.model_validate(
            {
                "data_dir": tmp_path / name,
                "listeners": [{"host": "127.0.0.1", "port": 0}],
                "http": {"port": 0},
                "store_map_size_bytes": 64 * 1024 * 1024,
            }
        )

    async def body() -> None:
        with pytest.raises(BrokerStopped):
            _ = Broker(config("never")).metrics
        async with Broker(config("one")) as one, Broker(config("two")) as two:
            number = next(end.port for end in one.endpoints if end.name == "mqtt")
            _, writer = await asyncio.open_connection("127.0.0.1", number)
            await asyncio.sleep(0.05)
            assert samples(one.metrics.text().decode())["iot_broker_connections"] == 1
            assert samples(two.metrics.text().decode())["iot_broker_connections"] == 0
            writer.close()
            await writer.wait_closed()

    asyncio.run(body())
