"""Rules of the command line: what is printed where, exit codes, and that no running broker is needed."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import shlex
import stat
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from broker import Broker
from broker.cli import banner, main
from broker.config import BrokerConfig
from broker.control import ControlServer
from broker.doors import Endpoint
from broker.observability import logs
from broker.storage.data_dir import DataDir
from tests.support import pki
from tests.upper import Upper

KEY_FORM = r"wayscloud_iot_prod_[A-Za-z0-9]{32,}"


@pytest.fixture(autouse=True)
def _without_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("IOT_BROKER_")]:
        monkeypatch.delenv(name)


def iot_broker(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="iot-broker")


def test_keys_create_prints_the_key_alone_and_works_before_the_first_start(tmp_path: Path) -> None:
    made = iot_broker("keys", "create", "backend", "--data-dir", tmp_path / "data")
    assert made.exit_code == 0, made.output
    assert re.fullmatch(KEY_FORM + "\n", made.stdout)
    assert "shown this once" in made.stderr
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
    listed = iot_broker("keys", "list", "--data-dir", tmp_path / "data")
    assert "backend" in listed.stdout
    assert made.stdout.strip() not in listed.stdout


def test_a_revoked_key_is_listed_with_its_end(tmp_path: Path) -> None:
    iot_broker("keys", "create", "backend", "--data-dir", tmp_path)
    key_id = iot_broker("keys", "list", "--data-dir", tmp_path).stdout.splitlines()[1].split()[0]
    revoked = iot_broker("keys", "revoke", key_id, "--data-dir", tmp_path)
    assert (revoked.exit_code, revoked.stdout) == (0, "")
    row = iot_broker("keys", "list", "--data-dir", tmp_path).stdout.splitlines()[1]
    assert re.search(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ +- +\d{4}-\d\d-\d\dT", row)


def test_accounts_are_created_listed_suspended_and_given_plans_and_levels(tmp_path: Path) -> None:
    iot_broker("keys", "create", "k", "--data-dir", tmp_path)
    assert iot_broker("accounts", "create", "acme", "--plan", "free", "--data-dir", tmp_path).exit_code == 0
    assert iot_broker("accounts", "set-plan", "acme", "unlimited", "--data-dir", tmp_path).exit_code == 0
    assert iot_broker("accounts", "suspend", "acme", "--data-dir", tmp_path).exit_code == 0
    assert iot_broker("accounts", "create", "lab", "--durability", "relaxed", "--data-dir", tmp_path).exit_code == 0
    assert iot_broker("accounts", "set-durability", "acme", "memory", "--data-dir", tmp_path).exit_code == 0
    assert iot_broker("accounts", "set-queue-full-policy", "lab", "refuse", "--data-dir", tmp_path).exit_code == 0
    rows = [line.split()[1:6] for line in iot_broker("accounts", "list", "--data-dir", tmp_path).stdout.splitlines()]
    assert rows[1:] == [
        ["default", "professional", "synced", "default", "no"],
        ["acme", "unlimited", "memory", "default", "yes"],
        ["lab", "professional", "relaxed", "refuse", "no"],
    ]
    assert iot_broker("accounts", "resume", "acme", "--data-dir", tmp_path).exit_code == 0


def test_admin_keys_are_made_listed_and_revoked_also_before_the_first_start(tmp_path: Path) -> None:
    made = iot_broker("admin-keys", "create", "ops", "--expires-at", "2099-01-31T12:00:00Z", "--data-dir", tmp_path)
    assert made.exit_code == 0, made.output
    assert re.fullmatch(r"iot_admin_[A-Za-z0-9]{32,}\n", made.stdout)
    listed = iot_broker("admin-keys", "list", "--data-dir", tmp_path).stdout.splitlines()
    (row,) = [line.split() for line in listed[1:]]
    assert (row[1:3], row[4:]) == (["ops", "2099-01-31T12:00:00Z"], ["-", "-"])
    assert iot_broker("admin-keys", "revoke", row[0], "--data-dir", tmp_path).exit_code == 0
    ended = iot_broker("admin-keys", "list", "--data-dir", tmp_path).stdout
    assert re.search(r"- +\d{4}-\d\d-\d\dT", ended)
    assert made.stdout.strip() not in ended


def test_one_account_is_shown(tmp_path: Path) -> None:
    iot_broker("keys", "create", "k", "--data-dir", tmp_path)
    iot_broker("accounts", "create", "acme", "--data-dir", tmp_path)
    shown = iot_broker("accounts", "show", "acme", "--data-dir", tmp_path).stdout.splitlines()
    assert shown[0].split()[-1] == "created"
    assert " acme " in shown[1]
    assert len(shown) == 2


def test_listing_makes_no_data_directory(tmp_path: Path) -> None:
    result = iot_broker("accounts", "list", "--data-dir", tmp_path / "absent")
    assert (result.exit_code, (tmp_path / "absent").exists()) == (1, False)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["keys", "create", "x", "--account", "absent"], 1, "no account 'absent'"),
        (["keys", "create", "x", "--scope", "root"], 2, "root"),
        (["keys", "create", "x", "--topic", "a#"], 1, "patterns: expected"),
        (["keys", "create", "x", "--topic", "!a"], 1, "patterns: expected"),
        (["keys", "create", "x", "--expires-at", "tomorrow"], 2, "2030-01-31T12:00:00Z"),
        (["keys", "create", "x", "--expires-at", "2030-02-30T12:00:00Z"], 2, "2030-01-31T12:00:00Z"),
        (["keys", "create", "x", "--expires-at", "2020-01-01T00:00:00Z"], 1, "a moment to come"),
        (["keys", "create", "k", "--scope", "publish"], 1, "other rights"),
        (["keys", "revoke", "99"], 1, "no such key"),
        (["keys", "revoke", "x"], 2, "not a valid integer"),
        (["admin-keys", "create", "x/y"], 1, "name: expected"),
        (["admin-keys", "create", "x", "--expires-at", "2020-01-01T00:00:00Z"], 1, "a moment to come"),
        (["admin-keys", "revoke", "99"], 1, "no such admin key"),
        (["accounts", "show", "absent"], 1, "no account 'absent'"),
        (["accounts", "create", "default"], 1, "already"),
        (["accounts", "set-plan", "default", "golden"], 2, "golden"),
        (["accounts", "set-durability", "default", "eternal"], 2, "eternal"),
        (["accounts", "set-durability", "absent", "memory"], 1, "absent"),
        (["accounts", "set-queue-full-policy", "default", "panic"], 2, "panic"),
        (["serve", "--mqtt-port", "70000"], 2, "70000"),
        (["serve", "--open", "--host", "0.0.0.0"], 2, "loopback"),
        (["keys", "list", "--config", "absent.toml"], 2, "absent.toml"),
    ],
)
def test_a_refusal_is_told_on_standard_error_with_its_exit_code(
    tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    iot_broker("keys", "create", "k", "--data-dir", tmp_path)
    result = iot_broker(*arguments, "--data-dir", tmp_path)
    assert result.exit_code == code, result.output
    assert words in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.output


def test_an_owned_directory_without_a_socket_is_left_alone(tmp_path: Path) -> None:
    iot_broker("keys", "create", "k", "--data-dir", tmp_path)
    with DataDir.claim(tmp_path):
        result = iot_broker("keys", "list", "--data-dir", tmp_path)
    assert result.exit_code == 1
    assert f"in use by process {os.getpid()}" in result.stderr


def test_a_running_broker_is_asked_over_its_socket(tmp_path: Path) -> None:
    upper = Upper()
    ready, done = threading.Event(), threading.Event()

    async def broker() -> None:
        await upper.bootstrap()
        server = ControlServer(tmp_path, upper.admin.operator)
        await server.start()
        ready.set()
        await asyncio.to_thread(done.wait)
        await server.stop()

    thread = threading.Thread(target=lambda: asyncio.run(broker()))
    with DataDir.claim(tmp_path):
        thread.start()
        try:
            assert ready.wait(10)
            made = iot_broker("keys", "create", "live", "--data-dir", tmp_path)
        finally:
            done.set()
            thread.join(10)
    assert made.exit_code == 0, made.output
    assert upper.admin.access.account_key(made.stdout.strip()).key_name == "live"
    assert not (tmp_path / "store").exists()


def test_check_config_says_what_would_be_used_or_names_the_wrong_key(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    good.write_text("[http]\nport = 9090\n")
    bad.write_text("[http]\nprot = 9090\n")
    checked = iot_broker("check-config", "--config", good)
    assert checked.exit_code == 0
    assert "127.0.0.1:9090" in checked.stdout
    refused = iot_broker("check-config", "--config", bad)
    assert (refused.exit_code, refused.stderr) == (2, "iot-broker: unknown key 'http.prot'; is 'port' meant?\n")


def test_check_config_reads_the_certificates_that_a_start_would_refuse(tmp_path: Path) -> None:
    ours, theirs = pki.issue("server"), pki.issue("server")
    files = {
        "cert.pem": ours.pem,
        "key.pem": ours.key_pem,
        "other.pem": theirs.key_pem,
        "ca.pem": b"no authority",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    file = tmp_path / "broker.toml"

    def checked(key: str, more: str = "") -> tuple[int, str]:
        pair = f"certificate_file = '{tmp_path}/cert.pem'\nprivate_key_file = '{tmp_path}/{key}'\n"
        file.write_text(f"[[listeners]]\ntransport = 'tls'\n{pair if key else ''}{more}")
        done = iot_broker("check-config", "--config", file)
        return done.exit_code, done.stderr

    assert checked("key.pem") == (0, "")
    assert checked("other.pem") == (
        2,
        f"iot-broker: {tmp_path}/other.pem: not the key of the certificate in {tmp_path}/cert.pem\n",
    )
    assert checked("nowhere.pem") == (2, f"iot-broker: {tmp_path}/nowhere.pem: No such file or directory\n")
    code, told = checked("", f"client_certificate = 'required'\nclient_ca_file = '{tmp_path}/ca.pem'\n")
    assert (code, f"{tmp_path}/ca.pem: no certificate in PEM" in told) == (2, True)


def test_check_config_tells_of_a_certificate_that_has_ended_and_passes_it_as_a_start_does(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    ended = pki.issue("server", begins=now - timedelta(days=9), ends=now - timedelta(days=1))
    (tmp_path / "both.pem").write_bytes(ended.pem + ended.key_pem)
    file = tmp_path / "broker.toml"
    pair = f"certificate_file = '{tmp_path}/both.pem'\nprivate_key_file = '{tmp_path}/both.pem'\n"
    file.write_text(f"[https]\n{pair}")
    done = iot_broker("check-config", "--config", file)
    assert done.exit_code == 0
    assert done.stderr.startswith("iot-broker: https: the certificate ended on ")


def test_an_export_that_is_refused_prints_no_head_of_a_table(tmp_path: Path) -> None:
    refused = iot_broker("devices", "export", "--data-dir", tmp_path / "nowhere")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr == f"iot-broker: there is no data directory {tmp_path}/nowhere; --data-dir says where it is\n"


def test_a_file_that_cannot_be_written_is_named_without_numbers(tmp_path: Path) -> None:
    (tmp_path / "devices.csv").write_text("name,type\nPump,other\n")
    logins = tmp_path / "nowhere" / "logins.csv"
    refused = iot_broker("devices", "import", tmp_path / "devices.csv", "--credentials", logins, "--data-dir", tmp_path)
    assert (refused.exit_code, refused.stderr) == (1, f"iot-broker: {logins}: No such file or directory\n")


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path: Path) -> None:
    iot_broker("keys", "create", "backend", "--data-dir", tmp_path)
    program = "from broker.cli import main; main()"
    ends, into = os.pipe()
    os.close(ends)
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", program, "store", "stats", "--data-dir", tmp_path],
            stdout=into,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    finally:
        os.close(into)
    assert (done.returncode, done.stderr) == (1, "")


def test_help_is_asked_for_by_h_as_well_and_names_the_usual_ports() -> None:
    short, long = iot_broker("serve", "-h"), iot_broker("serve", "--help")
    assert (short.exit_code, short.stdout) == (0, long.stdout)
    assert all(f"({port})" in short.stdout for port in (1883, 8883, 8083, 8084, 8080, 8443))


@pytest.mark.parametrize("group", ["", "keys", "admin-keys", "accounts", "devices", "store"])
def test_what_a_command_does_is_listed_in_whole_sentences(group: str) -> None:
    listed = iot_broker(*group.split(), "--help").stdout
    assert "..." not in listed.split("Commands:")[1]


def test_the_file_may_be_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "c.toml").write_text("[http]\nport = 9191\n")
    monkeypatch.setenv("IOT_BROKER_CONFIG", str(tmp_path / "c.toml"))
    assert ":9191" in iot_broker("check-config").stdout


def test_the_banner_names_every_port_and_once_the_key_with_a_line_that_can_be_pasted() -> None:
    endpoints = [Endpoint("mqtt", "mqtt", "0.0.0.0", 41883), Endpoint("http", "http", "0.0.0.0", 48080)]
    text = banner(BrokerConfig(), endpoints, "KEY")
    assert "0.0.0.0:41883" in text
    (line,) = [line for line in text.splitlines() if "curl" in line]
    words = shlex.split(line)
    assert "http://127.0.0.1:48080/v1/iot/devices" in words
    assert "Authorization: Bearer KEY" in words
    later = banner(BrokerConfig(), endpoints, None)
    assert "curl" not in later
    assert "First start" not in later


def test_an_ipv6_address_stands_in_brackets() -> None:
    text = banner(BrokerConfig(), [Endpoint("http", "http", "::1", 8080)], "KEY")
    assert "http://[::1]:8080/v1/iot/devices" in text


def test_what_is_loaded_is_not_looked_at_for_garbage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frozen: list[int] = []

    async def at_once(_broker: Broker) -> None:
        frozen.append(gc.get_freeze_count())

    monkeypatch.setattr(Broker, "run_until_signal", at_once)
    monkeypatch.setattr(logs, "configure", lambda *_: None)
    ports = ["--host=127.0.0.1", "--mqtt-port=0", "--http-port=0"]
    try:
        result = CliRunner().invoke(main, ["serve", f"--data-dir={tmp_path / 'data'}", *ports])
    finally:
        gc.unfreeze()
    assert result.exit_code == 0, result.output
    assert frozen[0] > 1000
