"""``iot-broker serve`` and its sister commands as an operator meets them: first key, ports, and refusals to start."""

from __future__ import annotations

import json
import re
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.served import KEY_FORM, PORTS, Served, run_cli
from tests.integration.wire import CONNACK, V5, Client, connect

Serve = Callable[..., Served]
FREE = ("--mqtt-port", "0", "--http-port", "0")


def one_line(text: str) -> str:
    lines = text.splitlines()
    assert len(lines) == 1, text
    return lines[0]


def test_the_first_start_shows_real_ports_and_a_key_and_no_later_one_shows_a_key(serve: Serve, tmp_path: Path) -> None:
    first = serve(data_dir=tmp_path / "data")
    assert len(KEY_FORM.findall(first.output)) == 3 - 1, "alone on a line, and in the curl line"
    for endpoint in first.endpoints:
        assert endpoint["port"] > 0
        assert f"127.0.0.1:{endpoint['port']}" in first.output
    assert f"curl -X POST http://127.0.0.1:{first.port('http')}/v1/iot/devices" in first.output
    assert first.api_key not in first.log
    assert first.stop() == 0
    second = serve(data_dir=tmp_path / "data", api_key=first.api_key)
    assert second.shown_key is None
    assert "curl" not in second.output
    assert second.call("GET", "/devices").status_code == 200


def test_what_holds_secrets_belongs_to_its_owner_alone(serve: Serve) -> None:
    data = serve().data_dir
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    for file in ("secret", "lock", "control.sock", "store/data.mdb"):
        assert stat.S_IMODE((data / file).stat().st_mode) & 0o077 == 0, file
    assert json.loads((data / "endpoints.json").read_text())


def test_after_a_clean_end_nothing_of_the_running_broker_is_left(serve: Serve) -> None:
    broker = serve()
    assert broker.stop() == 0
    assert sorted(path.name for path in broker.data_dir.iterdir()) == ["lock", "secret", "store", "tls"]


def test_the_table_of_descriptors_has_room_for_all_connections_from_the_start(serve: Serve) -> None:
    """A table that grows under load makes an accept wait for ten milliseconds."""
    served = serve(environment={"IOT_BROKER_CAPABILITIES__CONNECTIONS_MAXIMUM": "5000"})
    status = Path(f"/proc/{served.process.pid}/status").read_text()
    size = re.search(r"^FDSize:\s+(\d+)$", status, re.MULTILINE)
    assert size is not None
    assert int(size[1]) >= 5000
    assert served.descriptors() < 100


def test_with_few_descriptors_allowed_it_starts_all_the_same(serve: Serve) -> None:
    assert serve(descriptors=200).descriptors() < 100


def test_a_second_broker_on_the_same_data_directory_is_refused_with_the_owners_pid(serve: Serve) -> None:
    broker = serve()
    second = run_cli("serve", "--data-dir", broker.data_dir, *PORTS)
    assert second.returncode == 1
    assert str(broker.process.pid) in one_line(second.stderr)
    assert broker.call("GET", "/devices").status_code == 200


@pytest.mark.parametrize("flag", ["--mqtt-port", "--http-port"])
def test_a_port_in_use_is_one_clear_line(tmp_path: Path, flag: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        others = ("--mqtt-port", "0") if flag == "--http-port" else ("--http-port", "0")
        done = run_cli("serve", "--data-dir", tmp_path / "data", "--host", "127.0.0.1", *others, flag, port)
    assert done.returncode == 2
    assert f"127.0.0.1:{port}" in one_line(done.stderr)
    assert "in use" in done.stderr
    again = run_cli("keys", "list", "--data-dir", tmp_path / "data")
    assert again.returncode == 0, "the data directory was given back"
    assert "default" not in again.stdout, "a key was made that nobody has seen"


def test_open_mode_lets_anyone_in_on_loopback(serve: Serve) -> None:
    broker = serve("--open", ports=FREE)
    for endpoint in broker.endpoints:
        assert endpoint["host"] == "127.0.0.1"
    with Client(broker.port(), V5) as client:
        client.send(connect(V5, "anybody"))
        assert client.expect(CONNACK).body[1] == 0
        assert client.subscribe("#") == [1]
        assert client.publish_within("any/topic", b"x") == [b"x"]


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "example.org"])
def test_open_mode_is_refused_elsewhere(tmp_path: Path, host: str) -> None:
    done = run_cli("serve", "--open", "--host", host, "--data-dir", tmp_path / "data", *FREE)
    assert done.returncode == 2
    assert "loopback" in one_line(done.stderr)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("colour = 'red'", "unknown key 'colour'"),
        ("[http]\nprot = 1", "unknown key 'http.prot'"),
        ("[[listeners]]\ntls = true", "listeners.0.tls"),
        ("[capabilities]\nmaximum_qos = 1", "capabilities.maximum_qos"),
        ("store_map_size_bytes = 1", "store_map_size_bytes"),
        ("[capabilities]\nconnect_timeout_s = 'soon'", "capabilities.connect_timeout_s"),
        ("log_level = 'loud'", "log_level"),
        ("[[listeners]]\n[[listeners]]", "name of its own"),
        ("not toml at all", "not TOML"),
    ],
)
def test_check_config_names_what_cannot_be_used_and_serve_refuses_it_too(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "broker.toml"
    file.write_text(text)
    checked = run_cli("check-config", "--config", file)
    assert (checked.returncode, checked.stdout) == (2, "")
    assert words in one_line(checked.stderr)
    refused = run_cli("serve", "--config", file, "--data-dir", tmp_path / "data", *PORTS)
    assert (refused.returncode, refused.stderr) == (2, checked.stderr)
    assert not (tmp_path / "data").exists()


def test_check_config_passes_what_can_be_used(tmp_path: Path) -> None:
    file = tmp_path / "broker.toml"
    file.write_text("[[listeners]]\nname = 'plain'\nport = 18830\n")
    done = run_cli("check-config", "--config", file)
    assert done.returncode == 0, done.stderr
    assert "plain on 0.0.0.0:18830" in done.stdout


def test_flags_win_over_the_environment_which_wins_over_the_file(serve: Serve, tmp_path: Path) -> None:
    file = tmp_path / "broker.toml"
    file.write_text(
        "public_host = 'from-file'\nlog_level = 'error'\n"
        "[http]\nhost = '127.0.0.3'\nport = 1\n"
        "[[listeners]]\nname = 'first'\nhost = '127.0.0.3'\nport = 1\n"
        "[[listeners]]\nname = 'second'\nhost = '127.0.0.2'\nport = 0\n"
    )
    environment = {
        "IOT_BROKER_CONFIG": str(file),
        "IOT_BROKER_HTTP__HOST": "127.0.0.1",
        "IOT_BROKER_HTTP__PORT": "2",
        "IOT_BROKER_PUBLIC_HOST": "from-environment",
        "IOT_BROKER_DATA_DIR": str(tmp_path / "not-here"),
    }
    broker = serve(ports=FREE, environment=environment)
    hosts = {one["name"]: one["host"] for one in broker.endpoints}
    assert hosts == {"first": "127.0.0.3", "second": "127.0.0.2", "http": "127.0.0.1", "https": "127.0.0.1"}
    assert not (tmp_path / "not-here").exists()
    assert broker.call("GET", "/credentials").json()["broker"] == "from-environment"
    assert " INFO " not in broker.log, "log_level is the file's"


@pytest.mark.parametrize("name", ["IOT_BROKER_COLOUR", "IOT_BROKER_HTTP__PROT"])
def test_an_unknown_variable_of_the_environment_is_refused_by_name(tmp_path: Path, name: str) -> None:
    done = run_cli("serve", "--data-dir", tmp_path / "data", *PORTS, environment={name: "1"})
    assert done.returncode == 2
    assert name.rpartition("_")[2].lower() in one_line(done.stderr).lower()


def test_a_data_directory_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run_cli("serve", "--data-dir", tmp_path / "file" / "data", *PORTS)
    assert done.returncode == 1
    assert "file/data" in one_line(done.stderr)


def test_a_store_without_its_secret_is_not_opened(serve: Serve) -> None:
    broker = serve()
    assert broker.stop() == 0
    (broker.data_dir / "secret").unlink()
    done = run_cli("serve", "--data-dir", broker.data_dir, *PORTS)
    assert done.returncode == 1
    assert "secret" in one_line(done.stderr)


@pytest.mark.parametrize("running", [True, False], ids=["beside-a-broker", "without-one"])
def test_keys_and_accounts_are_managed_with_and_without_a_running_broker(
    serve: Serve, tmp_path: Path, running: bool
) -> None:
    broker = serve(data_dir=tmp_path / "data")
    if not running:
        assert broker.stop() == 0
    made = broker.cli("accounts", "create", "acme", "--plan", "free")
    assert (made.returncode, made.stdout) == (0, ""), made.stderr
    assert broker.cli("accounts", "set-plan", "acme", "unlimited").returncode == 0
    accounts = [line.split()[1:3] for line in broker.cli("accounts", "list").stdout.splitlines()[1:]]
    assert accounts == [["default", "professional"], ["acme", "unlimited"]]
    created = broker.cli("keys", "create", "backend", "--account", "acme")
    assert re.fullmatch(KEY_FORM.pattern + "\n", created.stdout)
    key = created.stdout.strip()
    (row,) = [line for line in broker.cli("keys", "list", "--account", "acme").stdout.splitlines() if "backend" in line]
    assert key not in broker.cli("keys", "list").stdout
    if not running:
        broker = serve(data_dir=tmp_path / "data")
    assert broker.call("GET", "/devices", api_key=key).json()["total"] == 0
    assert broker.cli("keys", "revoke", row.split()[0]).returncode == 0
    assert broker.call("GET", "/devices", api_key=key).status_code == 401


def test_listener_and_account_say_what_clients_are_promised_and_clients_are_told(serve: Serve) -> None:
    listeners = [{"name": "mqtt", "port": 0}, {"name": "fast", "port": 0, "durability": "relaxed"}]
    broker = serve("--http-port", "0", environment={"IOT_BROKER_LISTENERS": json.dumps(listeners)})
    device = broker.register()

    def told(listener: str) -> str:
        with Client(broker.port(listener), V5) as client:
            client.send(connect(V5, device.device_id, device.username, device.password))
            found = re.search(rb"durability\x00.(\w+)$", client.expect(CONNACK).body)
        assert found is not None
        return found[1].decode()

    assert [told("mqtt"), told("fast")] == ["synced", "relaxed"]
    assert broker.cli("accounts", "set-durability", "default", "memory").returncode == 0
    assert [told("mqtt"), told("fast")] == ["memory", "memory"]
    assert re.search(r"default +professional +memory", broker.cli("accounts", "list").stdout)


def test_what_the_operator_gets_wrong_is_one_line(serve: Serve) -> None:
    broker = serve()
    for arguments, words in [
        (("keys", "revoke", "99"), "no such key"),
        (("keys", "create", "x", "--account", "absent"), "absent"),
        (("accounts", "create", "default"), "default"),
        (("accounts", "set-plan", "absent", "free"), "absent"),
    ]:
        done = broker.cli(*arguments)
        assert (done.returncode, done.stdout) == (1, "")
        assert words in one_line(done.stderr)
