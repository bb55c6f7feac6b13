"""Webhooks of a live broker: what is told to an endpoint, how it is signed, and what a bad endpoint costs."""

from __future__ import annotations

import http.server
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from broker.testing import BrokerUnderTest

LOCAL = {"allow_http": True, "allowed_networks": ["127.0.0.0/8"]}
WAIT_S = 10.0
EXAMPLE = re.compile(r"```python\n(.*?)```", re.DOTALL)
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "webhooks.md"


class Endpoint:
    """A receiver of deliveries; ``answer(number)`` says what the request of that number (from 0) is told."""

    def __init__(self, answer: Callable[[int], tuple[int, dict[str, str], bytes]]) -> None:
        self.requests: list[tuple[dict[str, str], bytes]] = []
        endpoint = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                number = len(endpoint.requests)
                endpoint.requests.append((dict(self.headers), body))
                status, headers, content = answer(number)
                self.send_response(status)
                for name, value in {"Content-Length": str(len(content)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """Say nothing: the broker may cut what it does not want to hear."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook?a=1"

    @property
    def events(self) -> list[dict[str, Any]]:
        return [event for _, body in list(self.requests) for event in json.loads(body)["events"]]


@contextmanager
def receiving(
    answer: Callable[[int], tuple[int, dict[str, str], bytes]] = lambda _number: (204, {}, b""),
) -> Iterator[Endpoint]:
    endpoint = Endpoint(answer)
    thread = threading.Thread(target=endpoint.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield endpoint
    finally:
        endpoint.server.shutdown()
        endpoint.server.server_close()
        thread.join(5)


class Account:
    """The account ``default`` of a live broker, over HTTP."""

    def __init__(self, broker: BrokerUnderTest) -> None:
        self.broker = broker
        self.http = httpx.Client(
            base_url=broker.http_url, headers={"X-API-Key": broker.api_key}, trust_env=False, timeout=30
        )

    def make(self, url: str, *events: str, **more: Any) -> dict[str, Any]:
        answer = self.http.post("/v1/iot/webhooks", json={"url": url, "events": events or ("telemetry",), **more})
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    def show(self, made: dict[str, Any]) -> dict[str, Any]:
        shown: dict[str, Any] = self.http.get(f"/v1/iot/webhooks/{made['webhook_id']}").raise_for_status().json()
        return shown

    def wait(self, condition: Callable[[], object]) -> None:
        self.broker.wait_until(condition, WAIT_S)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    with BrokerUnderTest(tmp_path_factory.mktemp("hooks") / "data", config={"webhooks": LOCAL}) as broker:
        account = Account(broker)
        yield account
        account.http.close()


@pytest.fixture
def account(live: Account) -> Iterator[Account]:
    yield live
    for one in live.http.get("/v1/iot/webhooks").json()["webhooks"]:
        assert live.http.delete(f"/v1/iot/webhooks/{one['webhook_id']}").status_code == 204


def test_what_happens_is_told_in_order_and_each_kind_by_its_name(account: Account) -> None:
    with receiving() as endpoint:
        made = account.make(endpoint.url, "telemetry", "presence")
        publish = account.broker.publish
        publish("devices/d-1/telemetry", b'{"celsius": 21.5}', qos=1)
        publish("devices/d-1/telemetry/raw", b"\xff\x00")
        publish("devices/d-1/presence", b'{"online": true}')
        publish("devices/d-1/status", b"is not asked for")
        publish("other/topic", b"is not asked for")
        account.wait(lambda: len(endpoint.events) >= 3)
        first, second, third = endpoint.events
        assert (first["type"], first["topic"], first["device_id"]) == ("telemetry", "devices/d-1/telemetry", "d-1")
        assert first["payload"] == {"celsius": 21.5}
        assert (second["type"], second["payload_base64"]) == ("telemetry", "/wA=")
        assert (third["type"], third["payload"]) == ("presence", {"online": True})
        account.wait(lambda: account.show(made)["delivered"] == 3)
        shown = account.show(made)
        assert (shown["dropped"], shown["failures"], shown["last_error"], shown["queued"]) == ({}, 0, None, 0)
        assert shown["last_success_at"] is not None
        assert "secret" not in shown


def test_a_delivery_is_verified_by_the_example_of_the_document(account: Account) -> None:
    names: dict[str, Any] = {}
    (example,) = EXAMPLE.findall(DOCUMENT.read_text(encoding="utf-8"))
    exec(compile(example, str(DOCUMENT), "exec"), names)
    is_from_the_broker = names["is_from_the_broker"]
    with receiving() as endpoint:
        made = account.make(endpoint.url)
        account.broker.publish("devices/d-1/telemetry", b"1")
        account.wait(lambda: endpoint.requests)
        headers, body = endpoint.requests[0]
        assert is_from_the_broker(made["secret"], headers, body)
        assert not is_from_the_broker(made["secret"], headers, body + b" ")
        assert not is_from_the_broker(made["secret"], {**headers, "Webhook-Id": "dlv_other"}, body)
        later = str(int(headers["Webhook-Timestamp"]) + 1)
        assert not is_from_the_broker(made["secret"], {**headers, "Webhook-Timestamp": later}, body)
        other = account.make(endpoint.url)
        assert not is_from_the_broker(other["secret"], headers, body)
        assert json.loads(body)["delivery_id"] == headers["Webhook-Id"]
        assert headers["Host"] == endpoint.url.split("/")[2]


def test_what_was_not_taken_is_sent_again_as_it_was(account: Account) -> None:
    def answer(number: int) -> tuple[int, dict[str, str], bytes]:
        return (500 if number == 0 else 204), {}, b""

    with receiving(answer) as endpoint:
        made = account.make(endpoint.url)
        account.broker.publish("devices/d-1/telemetry", b'"once"')
        account.wait(lambda: account.show(made)["failures"] == 1)
        failing = account.show(made)
        assert (failing["last_error"], failing["queued"]) == ("it answered 500", 1)
        assert failing["next_attempt_at"] is not None
        account.wait(lambda: len(endpoint.requests) == 2)
        (first, _), (second, _) = endpoint.requests
        assert first["Webhook-Id"] == second["Webhook-Id"]
        account.wait(lambda: account.show(made)["delivered"] == 1)
        assert account.show(made)["failures"] == 0


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ((302, {"Location": "http://127.0.0.1:1/"}, b""), "it answered 302; redirects are not followed"),
        ((404, {}, b"x" * 10), "it answered 404"),
    ],
)
def test_what_an_endpoint_answers_otherwise_is_a_failure_that_is_shown(
    account: Account, answer: tuple[int, dict[str, str], bytes], expected: str
) -> None:
    with receiving(lambda _number: answer) as endpoint:
        made = account.make(endpoint.url)
        account.broker.publish("devices/d-1/telemetry", b"1")
        account.wait(lambda: account.show(made)["last_error"] == expected)


def test_an_endpoint_that_says_gone_is_paused_and_comes_back_when_its_account_says_so(account: Account) -> None:
    def answer(number: int) -> tuple[int, dict[str, str], bytes]:
        return (410 if number == 0 else 204), {}, b""

    with receiving(answer) as endpoint:
        made = account.make(endpoint.url)
        account.broker.publish("devices/d-1/telemetry", b"1")
        account.wait(lambda: not account.show(made)["active"])
        paused = account.show(made)
        assert (paused["paused_reason"], paused["queued"]) == ("it answered 410", 1)
        assert paused["paused_at"] is not None
        answered = account.http.patch(f"/v1/iot/webhooks/{made['webhook_id']}", json={"active": True})
        assert (answered.json()["paused_at"], answered.json()["paused_reason"]) == (None, None)
        account.wait(lambda: account.show(made)["delivered"] == 1)


def test_a_filter_chooses_telemetry_and_a_change_is_followed(account: Account) -> None:
    with receiving() as endpoint:
        made = account.make(endpoint.url, "telemetry", topic_filter="devices/+/telemetry/temperature")
        account.broker.publish("devices/d-1/telemetry/humidity", b'"no"')
        account.broker.publish("devices/d-1/telemetry/temperature", b'"yes"')
        account.wait(lambda: endpoint.events)
        path = f"/v1/iot/webhooks/{made['webhook_id']}"
        assert account.http.patch(path, json={"topic_filter": None}).json()["topic_filter"] is None
        account.broker.publish("devices/d-1/telemetry/humidity", b'"now"')
        account.wait(lambda: len(endpoint.events) == 2)
        assert account.http.patch(path, json={"active": False}).json()["active"] is False
        account.broker.publish("devices/d-1/telemetry/humidity", b'"never"')
        assert account.http.patch(path, json={"active": True}).json()["active"] is True
        account.broker.publish("devices/d-1/telemetry/humidity", b'"again"')
        account.wait(lambda: len(endpoint.events) == 3)
        assert [event["payload"] for event in endpoint.events] == ["yes", "now", "again"]


def test_a_deaf_endpoint_costs_its_own_queue_and_nothing_else(account: Account) -> None:
    release = threading.Event()

    def deaf(_number: int) -> tuple[int, dict[str, str], bytes]:
        release.wait(WAIT_S)
        return 204, {}, b""

    with receiving(deaf) as slow, receiving() as quick:
        account.make(slow.url)
        fine = account.make(quick.url)
        account.broker.publish("devices/d-1/telemetry", b"0", qos=1)
        account.wait(lambda: slow.requests)
        for number in range(1, 20):
            account.broker.publish("devices/d-1/telemetry", str(number).encode(), qos=1)
        account.wait(lambda: len(quick.events) == 20)
        assert [event["payload"] for event in quick.events] == list(range(20))
        account.wait(lambda: account.show(fine)["delivered"] == 20)
        release.set()
        account.wait(lambda: len(slow.events) == 20)


def test_an_endless_answer_is_not_listened_to(account: Account) -> None:
    with receiving(lambda _number: (200, {}, b"x" * 5_000_000)) as endpoint:
        made = account.make(endpoint.url)
        account.broker.publish("devices/d-1/telemetry", b"1")
        account.wait(lambda: account.show(made)["delivered"] == 1)


def test_warnings_are_told(account: Account) -> None:
    with receiving() as endpoint:
        made = account.make(endpoint.url, "warnings")
        account.broker.call(account.broker.broker.admin.operator.set_plan("default", "free"))
        devices = [{"name": f"Device {number}", "type": "sensor"} for number in range(85)]
        assert account.http.post("/v1/iot/devices/bulk", json={"devices": devices}).json()["failed"] == 0
        account.wait(lambda: endpoint.events)
        (event,) = endpoint.events
        assert event["type"] == "warnings"
        assert (event["payload"]["kind"], event["payload"]["percent"]) == ("devices", 80)
        assert account.show(made)["dropped"] == {}


def test_nothing_is_told_about_another_account(account: Account) -> None:
    async def publish_elsewhere() -> None:
        admin = account.broker.broker.admin
        await admin.operator.create_account("elsewhere", "free")
        await account.broker.broker.publish("devices/d-1/telemetry", b'"theirs"', account="elsewhere")
        await account.broker.broker.publish("devices/d-1/telemetry", b'"ours"')

    with receiving() as endpoint:
        account.make(endpoint.url)
        account.broker.call(publish_elsewhere())
        account.wait(lambda: endpoint.events)
        assert [event["payload"] for event in endpoint.events] == ["ours"]


# ---------------------------------------------------------------- where nothing may be sent


def test_private_endpoints_are_refused_at_once_or_when_their_names_are_known(
    make_iot_broker: Callable[..., BrokerUnderTest],
) -> None:
    broker = make_iot_broker(config={"webhooks": {"allow_http": True}})
    account = Account(broker)
    with receiving() as endpoint, account.http:
        answer = account.http.post("/v1/iot/webhooks", json={"url": endpoint.url, "events": ["telemetry"]})
        assert answer.status_code == 400
        assert answer.json()["error"]["details"]["expected"] == "a public address"
        for host in ("localhost", "2130706433"):
            made = account.make(endpoint.url.replace("127.0.0.1", host))
            broker.publish("devices/d-1/telemetry", b"1")
            account.wait(lambda made=made: account.show(made)["last_error"] == "its address is not a public one")
        assert endpoint.requests == []


def test_plain_http_and_untrusted_certificates_are_refused(make_iot_broker: Callable[..., BrokerUnderTest]) -> None:
    broker = make_iot_broker(config={"webhooks": {"allowed_networks": ["127.0.0.0/8"]}})
    account = Account(broker)
    with account.http:
        plain = account.http.post("/v1/iot/webhooks", json={"url": broker.http_url, "events": ["telemetry"]})
        assert plain.status_code == 400
        made = account.make(broker.broker.https_url + "/hook")  # whose authority this system does not trust
        broker.publish("devices/d-1/telemetry", b"1")
        account.wait(lambda: "certificate is not trusted" in (account.show(made)["last_error"] or ""))


# ---------------------------------------------------------------- kept, and bounded


def test_webhooks_outlive_a_restart_with_their_secret(make_iot_broker: Callable[..., BrokerUnderTest]) -> None:
    broker = make_iot_broker(config={"webhooks": LOCAL})
    with receiving() as endpoint:
        account = Account(broker)
        with account.http:
            made = account.make(endpoint.url)
        broker.restart()
        again = Account(broker)
        with again.http:
            assert again.show(made)["url"] == endpoint.url
            broker.publish("devices/d-1/telemetry", b"1")
            again.wait(lambda: endpoint.requests)
        names: dict[str, Any] = {}
        exec(EXAMPLE.findall(DOCUMENT.read_text(encoding="utf-8"))[0], names)
        assert names["is_from_the_broker"](made["secret"], *endpoint.requests[0])


def test_an_account_has_so_many_and_no_more(account: Account) -> None:
    for _ in range(10):
        account.make("https://hooks.example.com/")
    answer = account.http.post("/v1/iot/webhooks", json={"url": "https://hooks.example.com/", "events": ["presence"]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "CONFLICT")


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"url": 7}, "url"),
    ({"url": "https://u:p@example.com/"}, "url"),
    ({"url": "gopher://example.com/"}, "url"),
    ({"url": ""}, "url"),
    ({"url": None}, "url"),
    ({"events": []}, "events"),
    ({"events": ["telemetry", "telemetry"]}, "events"),
    ({"events": ["everything"]}, "events.0"),
    ({"events": "telemetry"}, "events"),
    ({"topic_filter": "a/#/b"}, "topic_filter"),
    ({"topic_filter": "$SYS/#"}, "topic_filter"),
    ({"topic_filter": ""}, "topic_filter"),
    ({"topic_filter": 7}, "topic_filter"),
    ({"topic_filter": "a", "events": ["presence"]}, "topic_filter"),
    ({"active": "yes"}, "active"),
    ({"colour": "red"}, "colour"),
]


@pytest.mark.parametrize(("wrong", "field"), WRONG, ids=str)
def test_every_field_that_is_wrong_is_refused_by_its_name(account: Account, wrong: dict[str, Any], field: str) -> None:
    good = {"url": "https://hooks.example.com/", "events": ["telemetry"]}
    answer = account.http.post("/v1/iot/webhooks", json={**good, **wrong})
    assert (answer.status_code, answer.json()["error"]["details"]["field"]) == (400, field), answer.text
    assert account.http.get("/v1/iot/webhooks").json() == {"webhooks": []}


def test_another_account_s_webhook_looks_like_none(account: Account) -> None:
    made = account.make("https://hooks.example.com/")

    async def key_of_another() -> str:
        operator = account.broker.broker.admin.operator
        await operator.create_account("curious", "free")
        return (await operator.create_key("curious", "k"))[1]

    theirs = {"X-API-Key": account.broker.call(key_of_another())}
    path = f"/v1/iot/webhooks/{made['webhook_id']}"
    for method, body in (("GET", None), ("PATCH", {"active": False}), ("DELETE", None)):
        there = account.http.request(method, path, json=body, headers=theirs)
        nowhere = account.http.request(method, "/v1/iot/webhooks/wh_nowhere", json=body, headers=theirs)
        assert (there.status_code, there.json()) == (nowhere.status_code, nowhere.json())
        assert there.status_code == 404
    assert account.http.get("/v1/iot/webhooks", headers=theirs).json() == {"webhooks": []}
    assert account.show(made)["active"] is True


def test_the_stop_waits_for_no_endpoint(make_iot_broker: Callable[..., BrokerUnderTest]) -> None:
    release = threading.Event()

    def deaf(_number: int) -> tuple[int, dict[str, str], bytes]:
        release.wait(60)
        return 204, {}, b""

    broker = make_iot_broker(config={"webhooks": {**LOCAL, "timeout_s": 60}})
    with receiving(deaf) as endpoint:
        account = Account(broker)
        with account.http:
            account.make(endpoint.url)
            broker.publish("devices/d-1/telemetry", b"1")
            account.wait(lambda: endpoint.requests)
        broker.stop()  # within less than the endpoint takes, or this fails
        release.set()
