"""A broker whose store is damaged starts, says so, and serves what could be rescued; a strict one does not start."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import lmdb
import pytest

from broker.config import BrokerConfig
from broker.runtime import Broker
from broker.storage.datafile import DataFile, read_metas
from broker.storage.pages import table_tree
from broker.storage.rescue import look, prepare
from broker.storage.salvage import Salvage
from broker.storage.shapes import is_record
from broker.storage.trees import TreeReader, fresh_marks
from tests.integration.lively import MESSAGES, fill, take_all
from tests.integration.served import PORTS, PROGRAM, Login, Served, plain_environment, run_cli
from tests.integration.test_restart import may_log_in
from tests.support.damage import PAGE, zero_page

Serve = Callable[..., Served]
DEVICES = 40
PROVEN = ("messages", "subscriptions")  # their values prove themselves, and do not change


def data_file(data_dir: Path) -> Path:
    return data_dir / "store" / "data.mdb"


class Filled(NamedTuple):
    """A data directory with devices, whose broker was killed."""

    data_dir: Path
    key: str
    devices: list[Login]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Filled:
    broker = Served(tmp_path_factory.mktemp("original") / "data", *PORTS)
    devices = [broker.register(f"Device {number}", metadata={"text": "x" * 400}) for number in range(DEVICES)]
    broker.http.close()
    broker.kill()
    return Filled(broker.data_dir, broker.api_key, devices)


@pytest.fixture
def filled(original: Filled, tmp_path: Path) -> Filled:
    """A copy of it."""
    shutil.copytree(original.data_dir, tmp_path / "data", ignore=shutil.ignore_patterns("control.sock"))
    return original._replace(data_dir=tmp_path / "data")


def damage(data_dir: Path, change: Callable[[bytearray], None]) -> None:
    data = bytearray(data_file(data_dir).read_bytes())
    change(data)
    data_file(data_dir).write_bytes(data)


def readiness(broker: Served) -> tuple[int, str, str]:
    answer = broker.http.get("/readyz")
    return answer.status_code, answer.json()["status"], answer.json().get("reason", "")


def leaves_of_a_device(data_dir: Path) -> list[int]:
    """The pages with a device in the middle on them: the one in use, and older copies."""
    with lmdb.open(str(data_dir / "store"), max_dbs=20, readonly=True, lock=False) as environment:
        pages = data_file(data_dir).read_bytes()
        with environment.begin(db=environment.open_db(b"devices", create=False)) as transaction:
            values = [bytes(value) for _, value in transaction.cursor()]
            depth = transaction.stat()["depth"]
    assert depth > 1
    places = range(2, len(pages) // PAGE)
    return [page for page in places if values[DEVICES // 2] in pages[page * PAGE : (page + 1) * PAGE]]


def test_it_starts_tells_and_serves_what_was_rescued(serve: Serve, filled: Filled) -> None:
    data_dir, key, devices = filled
    damage(data_dir, lambda data: zero_page(data, 0))
    checked = run_cli("store", "check", "--data-dir", data_dir)
    assert (checked.returncode, "meta page 0 is damaged" in checked.stdout) == (1, True)
    broker = serve(data_dir=data_dir, api_key=key)
    assert all(may_log_in(broker, device) for device in devices)
    assert broker.call("GET", "/devices?limit=1").json()["total"] == DEVICES
    status, word, reason = readiness(broker)
    assert (status, word) == (200, "degraded")
    assert "damaged" in reason
    assert str(data_dir) in reason
    assert "iot_broker_alarms 1.0" in broker.http.get("/metrics").text
    assert "ERROR" in broker.log
    assert "store_rescued" in broker.log
    # new devices get numbers of their own
    assert may_log_in(broker, broker.register("new"))
    broker.stop()
    broker = serve(data_dir=data_dir, api_key=key)
    assert readiness(broker)[1] == "degraded"
    assert broker.cli("store", "acknowledge").returncode == 0
    assert readiness(broker) == (200, "ready", "")
    assert "iot_broker_alarms 0.0" in broker.http.get("/metrics").text
    broker.stop()
    assert readiness(serve(data_dir=data_dir, api_key=key))[1] == "ready"
    assert len(list(data_dir.glob("store.damaged-*"))) == 1


@pytest.mark.parametrize("pages", [(0,), (1,), (0, 1)], ids=str)
def test_sessions_and_what_waits_for_them_are_rescued(serve: Serve, tmp_path: Path, pages: tuple[int, ...]) -> None:
    broker = serve(data_dir=tmp_path / "data")
    devices = fill(broker)
    broker.kill()

    def change(data: bytearray) -> None:
        for page in pages:
            zero_page(data, page)

    damage(broker.data_dir, change)
    rescued = serve(data_dir=broker.data_dir, api_key=broker.api_key)
    assert readiness(rescued)[1] == "degraded"
    for device in devices[1:]:
        assert take_all(rescued, device) == list(range(MESSAGES))
    rescued.kill()
    assert run_cli("store", "check", "--data-dir", broker.data_dir).returncode == 0


def test_a_lost_leaf_costs_the_devices_on_it_alone(serve: Serve, filled: Filled) -> None:
    data_dir, key, devices = filled
    for page in leaves_of_a_device(data_dir):
        damage(data_dir, lambda data, page=page: zero_page(data, page))  # type: ignore[misc]
    broker = serve(data_dir=data_dir, api_key=key)
    known = [device for device in devices if may_log_in(broker, device)]
    assert DEVICES - 10 < len(known) < DEVICES
    assert broker.call("GET", "/devices?limit=1").json()["total"] == len(known)


def test_a_bad_record_in_a_whole_file_costs_that_record_alone(serve: Serve, filled: Filled) -> None:
    data_dir, key, devices = filled
    environment = lmdb.open(str(data_dir / "store"), max_dbs=20, map_size=1 << 28)
    with environment.begin(write=True, db=environment.open_db(b"devices")) as transaction:
        first = next(iter(transaction.cursor()))[0]
        transaction.put(bytes(first), b"\xc1\xc1\xc1")
    environment.close()
    refused = run_cli("serve", "--strict", "--mqtt-port", "0", "--http-port", "0", "--data-dir", data_dir)
    assert refused.returncode == 3
    broker = serve(data_dir=data_dir, api_key=key)
    assert sum(may_log_in(broker, device) for device in devices) == DEVICES - 1
    assert "damaged records" in json.loads((data_dir / "store" / "damage.json").read_text())["found"][0]


KINDS: dict[str, Callable[[bytearray], None]] = {
    "empty": bytearray.clear,
    "zeroed": lambda data: data.__setitem__(slice(None), bytes(len(data))),
    "cut in a page": lambda data: data.__delitem__(slice(3 * PAGE + 100, None)),
    "cut at a page": lambda data: data.__delitem__(slice(len(data) // PAGE // 2 * PAGE, None)),
    "foreign": lambda data: data.__setitem__(slice(None), b"something else\n" * 5000),
    "newer LMDB": lambda data: data.__setitem__(slice(20, PAGE + 21, PAGE), b"\x09\x09"),
    "noise": lambda data: data.__setitem__(slice(2 * PAGE, None), os.urandom(len(data) - 2 * PAGE)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_the_damage_strict_refuses_and_else_it_starts(serve: Serve, filled: Filled, kind: str) -> None:
    data_dir, key, _ = filled
    damage(data_dir, KINDS[kind])
    found = data_file(data_dir).read_bytes()
    refused = run_cli("serve", "--strict", "--mqtt-port", "0", "--http-port", "0", "--data-dir", data_dir)
    assert (refused.returncode, refused.stdout) == (3, "")
    assert "is damaged" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert data_file(data_dir).read_bytes() == found
    broker = serve(data_dir=data_dir, api_key=key)
    assert readiness(broker)[:2] == (200, "degraded")
    (aside,) = data_dir.glob("store.damaged-*")
    assert (aside / "data.mdb").read_bytes() == found
    broker.kill()
    serve(data_dir=data_dir, api_key=key)
    assert len(list(data_dir.glob("store.damaged-*"))) == 1


def test_a_store_that_is_no_file_is_refused_in_one_line(serve: Serve, filled: Filled) -> None:
    data_dir, _, _ = filled
    data_file(data_dir).unlink()
    data_file(data_dir).mkdir()
    refused = run_cli("serve", "--mqtt-port", "0", "--http-port", "0", "--data-dir", data_dir)
    assert refused.returncode == 1
    assert "not a plain file" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_without_room_for_the_rescue_it_says_so_and_the_store_waits_for_the_next_start(
    serve: Serve, filled: Filled
) -> None:
    data_dir, key, devices = filled
    damage(data_dir, lambda data: zero_page(data, 0))
    before = {path.name: path.read_bytes() for path in (data_dir / "store").iterdir()}
    limited = [
        "/bin/sh",
        "-c",
        'ulimit -f 64; exec "$0" "$@"',
        str(PROGRAM),
        "serve",
        *PORTS,
        "--data-dir",
        str(data_dir),
    ]
    refused = subprocess.run(limited, capture_output=True, text=True, timeout=30, check=False, env=plain_environment())
    assert refused.returncode == 1, refused.stderr
    assert "it could not be rescued and is as it was" in refused.stderr
    assert [line.startswith("iot-broker: ") for line in refused.stderr.splitlines()] == [False, True]
    assert {path.name: path.read_bytes() for path in (data_dir / "store").iterdir()} == before
    assert not list(data_dir.glob("store.*"))
    broker = serve(data_dir=data_dir, api_key=key)
    assert all(may_log_in(broker, device) for device in devices)


def test_a_start_that_is_killed_again_and_again_rescues_once(serve: Serve, filled: Filled) -> None:
    data_dir, key, devices = filled
    damage(data_dir, lambda data: zero_page(data, 1))
    found = data_file(data_dir).read_bytes()
    for wait_ms in (*range(200, 900, 50), 400, 450, 500):
        command = [str(PROGRAM), "serve", *PORTS, "--data-dir", str(data_dir)]
        with subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=plain_environment()
        ) as process:
            time.sleep(wait_ms / 1000)
            process.kill()
    broker = serve(data_dir=data_dir, api_key=key)
    assert all(may_log_in(broker, device) for device in devices)
    assert readiness(broker)[1] == "degraded"
    (aside,) = data_dir.glob("store.damaged-*")
    assert (aside / "data.mdb").read_bytes() == found
    assert sorted(path.name for path in data_dir.glob("store*")) == ["store", aside.name]


def both_states(path: Path) -> dict[tuple[str, bytes], set[bytes]]:
    """The values of every record in the newest state, and in the one before: what is missing comes from there."""
    found: dict[tuple[str, bytes], set[bytes]] = {}
    with closing(DataFile(path)) as file:
        for meta in read_metas(file)[0]:
            roots = TreeReader(file, meta.main, fresh_marks(file, meta))
            trees = {entry.key.decode(): table_tree(entry, meta.last_page) for entry in roots.entries()}
            for table, tree in trees.items():
                assert tree is not None
                for entry in TreeReader(file, tree, fresh_marks(file, meta)).entries():
                    found.setdefault((table, entry.key), set()).add(entry.value)
    return found


def test_each_page_of_a_store_with_everything_may_be_lost_and_a_broker_still_starts(
    serve: Serve, tmp_path: Path
) -> None:
    """Zeroed, or torn after its first sector: the broker starts, and what it rescued are records as they were."""
    broker = serve(data_dir=tmp_path / "data")
    fill(broker)
    broker.kill()
    shutil.rmtree(tmp_path / "copy", ignore_errors=True)
    whole = data_file(broker.data_dir).read_bytes()
    truth = both_states(data_file(broker.data_dir))

    async def start(folder: Path) -> None:
        http = {"host": "127.0.0.1", "port": 0}
        listeners = [{"host": "127.0.0.1", "port": 0}]
        config = BrokerConfig.model_validate({"data_dir": folder, "http": http, "listeners": listeners})
        async with Broker(config):
            pass

    for page in range(len(whole) // PAGE):
        for kept_bytes in (0, 512):
            folder = tmp_path / f"{page}-{kept_bytes}"
            (folder / "store").mkdir(parents=True)
            shutil.copy(broker.data_dir / "secret", folder)
            data = bytearray(whole)
            data[page * PAGE + kept_bytes : (page + 1) * PAGE] = bytes(PAGE - kept_bytes)
            data_file(folder).write_bytes(data)
            rescued = prepare(folder, map_size_bytes=1 << 30) is not None
            assert look(data_file(folder), records=rescued) == []  # else a body may be damaged, which its reader sees
            with Salvage(data_file(folder), is_record) as found:
                for one in found:
                    if one.table in PROVEN:
                        assert one.value in truth[one.table, one.key]
            if kept_bytes == 0:
                asyncio.run(start(folder))
