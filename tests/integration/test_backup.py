"""Backups as an operator makes them: whole or not at all, consistent under traffic, and the way back."""

from __future__ import annotations

import json
import shutil
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from broker.storage.rescue import RESTORE_READY
from broker.storage.tables import FORMAT
from tests.integration.lively import MESSAGES, await_that, come_in, connected_backend, cut, fill, take_all
from tests.integration.served import PORTS, PROGRAM, Login, Served, plain_environment, run_cli
from tests.integration.test_restart import may_log_in
from tests.support.paho import leave

Serve = Callable[..., Served]
QUEUED_MAXIMUM = 4000


@pytest.fixture(scope="module")
def lively(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str, list[Login]]:
    """A data directory with something in every table and a backup that was made of it while its broker ran."""
    folder = tmp_path_factory.mktemp("lively")
    broker = Served(folder / "data", *PORTS)
    devices = fill(broker)
    await_that(lambda: not entries(folder / "data")["online"], "who has gone is recorded a moment later")
    made = broker.cli("backup", str(folder / "backup"))
    assert made.returncode == 0, made.stderr
    broker.http.close()
    broker.kill()
    return folder / "data", folder / "backup", broker.api_key, devices


def counted(tables: dict[str, int]) -> dict[str, int]:
    """Without usage, which is written every five seconds and at the stop, whoever makes a backup meanwhile."""
    return {table: count for table, count in tables.items() if table != "usage"}


def entries(data_dir: Path) -> dict[str, int]:
    told = run_cli("store", "stats", "--json", "--data-dir", data_dir)
    assert told.returncode == 0, told.stderr
    return counted({table: figures["entries"] for table, figures in json.loads(told.stdout)["tables"].items()})


def contents(folder: Path) -> dict[str, Any]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# ---------------------------------------------------------------- making one


def test_a_backup_has_store_secret_configuration_and_manifest_for_its_owner_alone(
    lively: tuple[Path, Path, str, list[Login]],
) -> None:
    data_dir, backup, _, _ = lively
    own = ["tls/ca.key", "tls/ca.pem", "tls/server.pem"]
    assert sorted(contents(backup)) == ["configuration.json", "manifest.json", "secret", "store/data.mdb", *own]
    assert all((backup / name).read_bytes() == (data_dir / name).read_bytes() for name in own)
    assert (backup / "secret").read_bytes() == (data_dir / "secret").read_bytes()
    modes = {stat.S_IMODE(path.stat().st_mode) for path in backup.rglob("*") if path.is_file()}
    assert modes == {0o600}
    assert stat.S_IMODE(backup.stat().st_mode) == 0o700
    manifest = json.loads((backup / "manifest.json").read_text())
    assert manifest["entries"]["devices"] == 3
    assert manifest["entries"]["sessions"] >= 3
    assert json.loads((backup / "configuration.json").read_text())["data_dir"] == str(data_dir)
    assert run_cli("store", "check", "--backup", backup).returncode == 0
    assert not list(backup.parent.glob(".*unfinished*"))


@pytest.mark.timeout(180)
def test_a_backup_under_traffic_is_whole_and_has_what_was_promised_before(serve: Serve, tmp_path: Path) -> None:
    broker = serve(data_dir=tmp_path / "data")
    assert broker.cli("accounts", "set-plan", "default", "unlimited").returncode == 0
    device = broker.register()
    cut(come_in(broker, device))
    ended = threading.Event()
    sent: list[int] = []

    def register() -> None:
        while not ended.is_set():
            broker.register(f"busy {len(sent)}", metadata={"x": "y" * 2000})
            sent.append(1)
            ended.wait(0.2)  # a key has 1,000 requests a minute

    threads = [threading.Thread(target=register) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for number in range(3):
            await_that(lambda number=number: len(sent) > number * 10, "no traffic")  # type: ignore[misc]
            before = len(sent)
            made = broker.cli("backup", str(tmp_path / f"backup-{number}"))
            assert made.returncode == 0, made.stderr
            manifest = json.loads((tmp_path / f"backup-{number}" / "manifest.json").read_text())
            assert before + 1 <= manifest["entries"]["devices"] <= len(sent) + 1 + len(threads)
            assert run_cli("store", "check", "--backup", tmp_path / f"backup-{number}").returncode == 0
            checked = broker.cli("store", "check")
            assert (checked.returncode, checked.stdout) == (0, "")
    finally:
        ended.set()
        for thread in threads:
            thread.join(20)


@pytest.mark.timeout(180)
def test_what_was_acknowledged_before_a_backup_is_in_it_however_busy_the_broker_is(
    serve: Serve, tmp_path: Path
) -> None:
    broker = serve(data_dir=tmp_path / "data")
    device = broker.register()
    cut(come_in(broker, device))
    backend = connected_backend(broker)
    acknowledged: list[int] = []
    ended = threading.Event()

    def publish() -> None:
        while not ended.is_set() and len(acknowledged) < QUEUED_MAXIMUM:  # a full queue drops what was acknowledged
            sent = [backend.publish(device.topic("commands"), b"%d" % (len(acknowledged) + n), 1) for n in range(20)]
            for one in sent:
                one.wait_for_publish(20)
                acknowledged.append(len(acknowledged))

    publishing = threading.Thread(target=publish)
    publishing.start()
    promised: list[int] = []
    try:
        for number in range(3):
            await_that(lambda number=number: len(acknowledged) > 100 * (number + 1), "no traffic")  # type: ignore[misc]
            promised.append(len(acknowledged))
            assert broker.cli("backup", str(tmp_path / f"backup-{number}")).returncode == 0
    finally:
        ended.set()
        publishing.join(30)
    leave(backend)
    broker.stop()
    for number, count in enumerate(promised):
        data_dir = tmp_path / f"restored-{number}"
        assert run_cli("restore", tmp_path / f"backup-{number}", "--data-dir", data_dir).returncode == 0
        restored = serve(data_dir=data_dir, api_key=broker.api_key)
        sensor = come_in(restored, device)
        until = time.monotonic() + 30
        while len(sensor.got) < count and time.monotonic() < until:
            time.sleep(0.05)
        cut(sensor)
        assert [int(payload) for payload in sensor.got[:count]] == list(range(count)), (number, promised)
        restored.stop()


def test_a_backup_of_a_directory_without_a_broker_is_the_same(
    lively: tuple[Path, Path, str, list[Login]], tmp_path: Path
) -> None:
    data_dir, backup, _, _ = lively
    assert run_cli("backup", tmp_path / "offline", "--data-dir", data_dir).returncode == 0
    one, other = (json.loads((folder / "manifest.json").read_text()) for folder in (backup, tmp_path / "offline"))
    assert counted(one["entries"]) == counted(other["entries"])
    assert run_cli("store", "check", "--backup", tmp_path / "offline").returncode == 0


def test_a_taken_or_impossible_destination_is_refused_and_nothing_left(
    lively: tuple[Path, Path, str, list[Login]], tmp_path: Path
) -> None:
    data_dir, backup, _, _ = lively
    before = contents(backup)
    refused = run_cli("backup", backup, "--data-dir", data_dir)
    assert (refused.returncode, "is not empty" in refused.stderr) == (1, True)
    assert contents(backup) == before
    refused = run_cli("backup", tmp_path / "absent" / "b", "--data-dir", data_dir)
    assert (refused.returncode, "there is no folder" in refused.stderr) == (1, True)
    refused = run_cli("backup", tmp_path / "b", "--data-dir", tmp_path / "nothing")
    assert (refused.returncode, "there is no data directory" in refused.stderr) == (1, True)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "empty").mkdir()
    assert run_cli("backup", tmp_path / "empty", "--data-dir", data_dir).returncode == 0


def test_a_link_to_an_empty_folder_is_followed(lively: tuple[Path, Path, str, list[Login]], tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "empty").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere" / "empty")
    made = run_cli("backup", tmp_path / "link", "--data-dir", lively[0])
    assert made.returncode == 0, made.stderr
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "elsewhere" / "empty" / "manifest.json").exists()


def test_a_damaged_store_is_not_backed_up(lively: tuple[Path, Path, str, list[Login]], tmp_path: Path) -> None:
    data_dir, _, _, _ = lively
    shutil.copytree(data_dir, tmp_path / "data", ignore=shutil.ignore_patterns("control.sock"))
    file = tmp_path / "data" / "store" / "data.mdb"
    file.write_bytes(bytes(4096) + file.read_bytes()[4096:])
    refused = run_cli("backup", tmp_path / "b", "--data-dir", tmp_path / "data")
    assert (refused.returncode, "damaged" in refused.stderr) == (1, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_a_backup_that_is_killed_is_not_there(serve: Serve, tmp_path: Path) -> None:
    broker = serve(data_dir=tmp_path / "data")
    folder = tmp_path / "backups"
    folder.mkdir()
    for wait_ms in range(0, 600, 60):
        arguments = [str(PROGRAM), "backup", str(folder / "b"), "--data-dir", str(tmp_path / "data")]
        with subprocess.Popen(arguments, stderr=subprocess.DEVNULL, env=plain_environment()) as process:
            time.sleep(wait_ms / 1000)
            process.send_signal(signal.SIGKILL)
        if (folder / "b").exists():
            assert run_cli("store", "check", "--backup", folder / "b").returncode == 0
            shutil.rmtree(folder / "b")
    assert broker.cli("backup", str(folder / "b")).returncode == 0
    assert [path.name for path in folder.iterdir()] == ["b"]  # what the dead ones left is gone


# ---------------------------------------------------------------- the way back


def test_a_restored_broker_has_everything(
    lively: tuple[Path, Path, str, list[Login]], serve: Serve, tmp_path: Path
) -> None:
    data_dir, backup, key, devices = lively
    assert run_cli("restore", backup, "--data-dir", tmp_path / "new").returncode == 0
    assert entries(tmp_path / "new") == entries(data_dir)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["lock", "secret", "store", "tls"]
    modes = {path.name: oct(path.stat().st_mode)[-3:] for path in (tmp_path / "new" / "tls").iterdir()}
    assert modes == {"ca.pem": "644", "ca.key": "600", "server.pem": "600"}
    broker = serve(data_dir=tmp_path / "new", api_key=key)
    assert broker.shown_key is None
    for device in devices[1:]:
        assert take_all(broker, device) == list(range(MESSAGES))
    assert all(may_log_in(broker, device) for device in devices)
    assert broker.call("GET", f"/devices/{devices[1].device_id}").json()["metadata"] == {"n": 1}
    assert broker.http.get("/readyz").json() == {"status": "ready"}


def test_a_running_broker_is_not_restored_over(
    lively: tuple[Path, Path, str, list[Login]], serve: Serve, tmp_path: Path
) -> None:
    broker = serve(data_dir=tmp_path / "data")
    for force in ([], ["--force"]):
        refused = run_cli("restore", lively[1], *force, "--data-dir", tmp_path / "data")
        assert (refused.returncode, "in use by process" in refused.stderr) == (1, True)
    assert broker.call("GET", "/devices").status_code == 200


def test_a_taken_directory_is_refused_or_moved_aside(
    lively: tuple[Path, Path, str, list[Login]], serve: Serve, tmp_path: Path
) -> None:
    _, backup, key, _ = lively
    broker = serve(data_dir=tmp_path / "data")
    theirs = broker.api_key
    broker.stop()
    before = contents(tmp_path / "data" / "store"), (tmp_path / "data" / "secret").read_bytes()
    refused = run_cli("restore", backup, "--data-dir", tmp_path / "data")
    assert (refused.returncode, "--force" in refused.stderr) == (1, True)
    assert contents(tmp_path / "data" / "store") == before[0]
    assert run_cli("restore", backup, "--force", "--data-dir", tmp_path / "data").returncode == 0
    (aside,) = (tmp_path / "data").glob("before-restore-*")
    assert (contents(aside / "store"), (aside / "secret").read_bytes()) == before
    broker = serve(data_dir=tmp_path / "data", api_key=key)
    assert broker.call("GET", "/devices").status_code == 200
    assert broker.call("GET", "/devices", api_key=theirs).status_code == 401


@pytest.mark.parametrize("name", ["manifest.json", "secret", "store/data.mdb", "configuration.json", "tls/ca.key"])
@pytest.mark.parametrize("how", ["changed", "cut", "gone"])
def test_a_damaged_backup_is_refused_and_nothing_touched(
    lively: tuple[Path, Path, str, list[Login]], tmp_path: Path, name: str, how: str
) -> None:
    backup = tmp_path / "backup"
    shutil.copytree(lively[1], backup)
    content = bytearray((backup / name).read_bytes())
    content[len(content) // 2] ^= 1
    if how == "gone":
        (backup / name).unlink()
    else:
        (backup / name).write_bytes(content if how == "changed" else content[: len(content) // 2])
    refused = run_cli("restore", backup, "--data-dir", tmp_path / "new")
    if name == "manifest.json" and how == "changed":
        assert refused.returncode in (0, 1)  # a byte of its time or of its version tells nothing about the files
    else:
        assert refused.returncode == 1, refused.stderr
        assert not (tmp_path / "new" / "store").exists()
    assert "Traceback" not in refused.stderr


def test_what_is_no_backup_is_refused(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    assert "is no backup" in run_cli("restore", tmp_path / "b", "--data-dir", tmp_path / "new").stderr
    for text in ("[]", "{}", "x", '{"backup": 1, "files": {"../../etc/passwd": {}}}'):
        (tmp_path / "b" / "manifest.json").write_text(text)
        refused = run_cli("restore", tmp_path / "b", "--data-dir", tmp_path / "new")
        assert refused.returncode == 1
        assert "Traceback" not in refused.stderr
    (tmp_path / "b" / "manifest.json").write_text('{"backup": 99, "files": {}}')
    assert "newer version" in run_cli("restore", tmp_path / "b", "--data-dir", tmp_path / "new").stderr


@pytest.mark.parametrize("done", range(6))
def test_a_restore_that_a_crash_interrupted_is_finished_by_the_next_start(
    lively: tuple[Path, Path, str, list[Login]], serve: Serve, tmp_path: Path, done: int
) -> None:
    """The steps after the copy is whole: old store away, new one in, then the secret, then the certificates."""
    _, backup, key, devices = lively
    data_dir = tmp_path / "data"
    serve(data_dir=data_dir).stop()
    ready, aside = data_dir / RESTORE_READY, data_dir / "before-restore-x"
    (ready / "store").mkdir(parents=True)
    shutil.copy(backup / "store" / "data.mdb", ready / "store")
    shutil.copy(backup / "secret", ready)
    shutil.copytree(backup / "tls", ready / "tls")
    aside.mkdir()
    steps = []
    for name in ("store", "secret", "tls"):
        steps += [(data_dir / name, aside / name), (ready / name, data_dir / name)]
    for one, other in steps[:done]:
        one.rename(other)
    broker = serve(data_dir=data_dir, api_key=key)
    assert all(may_log_in(broker, device) for device in devices)
    assert not ready.exists()
    assert (data_dir / "tls" / "ca.pem").read_bytes() == (backup / "tls" / "ca.pem").read_bytes()


def test_a_backup_of_before_there_were_certificates_is_restored_beside_new_ones(
    lively: tuple[Path, Path, str, list[Login]], serve: Serve, tmp_path: Path
) -> None:
    old = tmp_path / "old"
    shutil.copytree(lively[1], old, ignore=shutil.ignore_patterns("tls"))
    manifest = json.loads((old / "manifest.json").read_text())
    manifest["backup"] = 1
    manifest["files"] = {name: told for name, told in manifest["files"].items() if not name.startswith("tls/")}
    (old / "manifest.json").write_text(json.dumps(manifest))
    serve(data_dir=tmp_path / "data").stop()
    authority = (tmp_path / "data" / "tls" / "ca.pem").read_bytes()
    assert run_cli("restore", old, "--force", "--data-dir", tmp_path / "data").returncode == 0
    assert (tmp_path / "data" / "tls" / "ca.pem").read_bytes() == authority
    assert may_log_in(serve(data_dir=tmp_path / "data", api_key=lively[2]), lively[3][0])


# ---------------------------------------------------------------- figures


def test_stats_tell_the_same_with_and_without_a_broker(serve: Serve, tmp_path: Path) -> None:
    broker = serve(data_dir=tmp_path / "data")
    for number in range(5):
        broker.register(f"device {number}")
    running = json.loads(broker.cli("store", "stats", "--json").stdout)
    text = broker.cli("store", "stats").stdout
    broker.kill()
    alone = json.loads(run_cli("store", "stats", "--json", "--data-dir", tmp_path / "data").stdout)
    assert running["tables"]["devices"]["entries"] == alone["tables"]["devices"]["entries"] == 5
    assert alone["format"] == FORMAT
    assert alone["budget_bytes"] == 64 * 1024**3
    assert alone["used_pages"] * alone["page_bytes"] == alone["used_bytes"]
    assert alone["used_pages"] + alone["free_pages"] <= alone["file_bytes"] // alone["page_bytes"] + 2
    assert [line.split()[0] for line in text.splitlines()[:3]] == ["format", "budget", "pages"]
    assert any(line.split()[:2] == ["devices", "5"] for line in text.splitlines())


def test_commands_about_nothing_say_so(tmp_path: Path) -> None:
    for command in (["store", "check"], ["store", "stats"], ["store", "acknowledge"]):
        refused = run_cli(*command, "--data-dir", tmp_path / "absent")
        assert (refused.returncode, "there is no data directory" in refused.stderr) == (1, True)
    assert not (tmp_path / "absent").exists()
