"""A thousand devices over a month's end, with a kill before it and one behind it: usage and quota stay exact.

Here belongs the whole of it at once, by clients over sockets. Not here: days (``test_days``), rules of counting
(``test_usage``), the core's part of it (``tests/scenarios/test_rate``).
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import httpx

from tests.integration.month_program import MESSAGES_PER_MONTH
from tests.integration.wire import CONNACK, PUBACK, V5, Client, connect, publish

ROOT = Path(__file__).resolve().parents[2]
DEVICES = 1000
PAYLOAD = b"21.5"
QUOTA_EXCEEDED = 0x97
NO_MATCHING_SUBSCRIBERS = 0x10
END = datetime(2027, 3, 1, tzinfo=UTC)


class Life:
    """One process of the broker, from its start to its end."""

    def __init__(self, data_dir: Path, wall_s: int, key: str | None = None) -> None:
        command = [sys.executable, "-m", "tests.integration.month_program", str(data_dir), str(wall_s)]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        told = self._read()
        self.port = int(told["mqtt"])
        self.key: str = key or told["key"]
        self.rest = httpx.Client(base_url=told["http"], headers={"Authorization": f"Bearer {self.key}"}, timeout=30)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.rest.close()
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        told: dict[str, Any] = json.loads(self.process.stdout.readline())
        return told

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        self._read()

    def get(self, path: str, **query: str) -> dict[str, Any]:
        answer = self.rest.get(f"/v1/iot/{path}", params=query)
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body

    def used(self) -> int:
        return int(self.get("quota")["usage"]["messages_this_month"])

    def by_day(self, start: str, end: str) -> dict[str, tuple[int, int]]:
        days = self.get("usage", start_date=start, end_date=end)["daily_breakdown"]
        return {day["date"]: (day["messages"], day["active_devices"]) for day in days if day["messages"]}

    def register(self) -> list[tuple[str, str, str]]:
        wanted = [{"name": f"sensor {number}", "device_type": "sensor"} for number in range(DEVICES)]
        answer = self.rest.post("/v1/iot/devices/bulk", json={"devices": wanted})
        assert answer.status_code == 200, answer.text
        made = [one["device"] for one in answer.json()["results"]]
        return [(one["device_id"], one["mqtt_username"], one["mqtt_password"]) for one in made]


Logins = Sequence[tuple[str, str, str]]


@contextmanager
def connected(life: Life, logins: Logins) -> Iterator[list[Client]]:
    """Let all devices in; they say nothing for as long as they like."""
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(life.port)) for _ in logins]
        for client, (device_id, username, password) in zip(clients, logins, strict=True):
            client.send(connect(V5, device_id, username, password))
        for client in clients:
            assert client.expect(CONNACK).body[1] == 0
        yield clients


def publish_all(clients: Sequence[Client], logins: Logins, each: int) -> int:
    """Every device publishes so many messages of QoS 1; gives how many of all were accepted."""
    for client, (device_id, _, _) in zip(clients, logins, strict=True):
        topic_name = f"devices/{device_id}/telemetry"
        client.send(b"".join(publish(V5, topic_name, PAYLOAD, number) for number in range(1, each + 1)))
    codes = [code_of(client) for client in clients for _ in range(each)]
    assert set(codes) <= {NO_MATCHING_SUBSCRIBERS, QUOTA_EXCEEDED}
    return codes.count(NO_MATCHING_SUBSCRIBERS)


def code_of(client: Client) -> int:
    body = client.expect(PUBACK).body
    return body[2] if len(body) > 2 else 0


def test_a_thousand_devices_are_counted_to_the_message_over_a_months_end_and_two_kills(tmp_path: Path) -> None:
    end_s = int(END.timestamp())
    with Life(tmp_path, end_s - 3600) as life:
        key, logins = life.key, life.register()
        with connected(life, logins) as clients:
            assert publish_all(clients, logins, 2) == 2 * DEVICES
            assert life.used() == 2 * DEVICES
            life.tell("keep")

    with Life(tmp_path, end_s - 1800, key) as life:
        assert life.used() == 2 * DEVICES
        with connected(life, logins) as clients:
            left = MESSAGES_PER_MONTH - 2 * DEVICES
            assert publish_all(clients, logins, 5) == left, "the quota ends at its last message, whoever sends it"
            assert publish_all(clients, logins, 1) == 0
            assert life.used() == MESSAGES_PER_MONTH
            life.tell("1801")
            assert life.used() == 0
            assert publish_all(clients, logins, 3) == 3 * DEVICES
            assert life.used() == 3 * DEVICES
            life.tell("keep")
            assert publish_all(clients, logins, 1) == DEVICES

    with Life(tmp_path, end_s + 60, key) as life:
        kept = life.used()
        assert 3 * DEVICES <= kept <= 4 * DEVICES, "a kill takes the last second's counts with it, and adds none"
        with connected(life, logins) as clients:
            assert publish_all(clients, logins, 4) == MESSAGES_PER_MONTH - kept
        assert life.by_day("2027-02-01", "2027-03-01") == {
            "2027-02-28": (MESSAGES_PER_MONTH, DEVICES),
            "2027-03-01": (MESSAGES_PER_MONTH, DEVICES),
        }
        last = life.get("usage", start_date="2027-02-28", end_date="2027-03-01", device_id=logins[-1][0])
        assert last["summary"]["active_devices"] == 1
