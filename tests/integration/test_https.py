"""HTTPS of a whole broker, as its callers see it: trusted from the first start on, exchanged while they are served."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.served import PORTS, Served, run_cli
from tests.support import pki

Serve = Callable[..., Served]
WITHIN_S = 8.0


def api(broker: Served, authority: Path | None = None) -> httpx.Client:
    """A client that trusts the broker's own authority, or another one."""
    context = ssl.create_default_context(cafile=authority or broker.data_dir / "tls" / "ca.pem")
    base = f"https://127.0.0.1:{broker.port('https')}"
    return httpx.Client(base_url=base, verify=context, timeout=10, trust_env=False)


def shown_certificate(broker: Served) -> bytes:
    """What a new connection is shown, as DER."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    plain = socket.create_connection(("127.0.0.1", broker.port("https")), timeout=10)
    with plain, context.wrap_socket(plain) as encrypted:
        shown = encrypted.getpeercert(binary_form=True)
    assert shown is not None
    return shown


def is_shown(broker: Served, one: pki.Issued) -> bool:
    return shown_certificate(broker) == one.certificate.public_bytes(pki.Encoding.DER)


def await_that(condition: Callable[[], object], what: str) -> None:
    until = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < until, what
        time.sleep(0.05)


def metric(broker: Served, name: str) -> dict[str, float]:
    """A metric's values by label."""
    text = broker.http.get("/metrics").text
    return {
        next(iter(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }


# ---------------------------------------------------------------- the broker's own


def test_the_first_start_makes_what_clients_can_trust_and_says_where_it_is(serve: Serve) -> None:
    broker = serve()
    folder = broker.data_dir / "tls"
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert modes == {"ca.pem": 0o644, "ca.key": 0o600, "server.pem": 0o600}
    der = ssl.PEM_cert_to_DER_cert((folder / "ca.pem").read_text())
    told = re.search(
        rf"clients trust {re.escape(str(folder))}/ca\.pem, whose SHA-256 is\n  ([0-9A-F:]+)\n", broker.output
    )
    assert told is not None
    assert told[1].replace(":", "").lower() == hashlib.sha256(der).hexdigest()
    assert told[1] in broker.log
    with api(broker) as client:
        assert client.get("/readyz").json() == {"status": "ready"}
        headers = {"Authorization": f"Bearer {broker.api_key}"}
        made = client.post("/v1/iot/devices", json={"name": "Sensor", "type": "sensor"}, headers=headers)
        assert made.status_code == 201
    broker.stop()
    again = serve(data_dir=broker.data_dir)
    assert told[1] in again.output


def test_the_certificate_is_for_the_public_host_and_follows_it(serve: Serve) -> None:
    first = serve(environment={"IOT_BROKER_PUBLIC_HOST": "mqtt.example.org"})
    authority = (first.data_dir / "tls" / "ca.pem").read_bytes()
    assert "DNS:mqtt.example.org" in described(first)
    first.stop()
    second = serve(data_dir=first.data_dir, environment={"IOT_BROKER_PUBLIC_HOST": "new.example.org"})
    assert "DNS:new.example.org" in described(second)
    assert "DNS:mqtt.example.org" not in described(second)
    assert (second.data_dir / "tls" / "ca.pem").read_bytes() == authority
    with api(second) as client:
        assert client.get("/healthz").status_code == 200


def described(broker: Served) -> str:
    pem = ssl.DER_cert_to_PEM_cert(shown_certificate(broker))
    command = ["openssl", "x509", "-noout", "-ext", "subjectAltName"]
    return subprocess.run(command, input=pem, capture_output=True, text=True, check=True).stdout


@pytest.mark.needs("curl")
def test_curl_trusts_it_by_the_file_alone(served: Served) -> None:
    url = f"https://localhost:{served.port('https')}/healthz"
    command = ["curl", "--silent", "--show-error", "--noproxy", "*", "--ipv4", url]
    trusting = subprocess.run(
        [*command, "--cacert", served.data_dir / "tls" / "ca.pem"], capture_output=True, text=True
    )
    assert json.loads(trusting.stdout) == {"status": "ok"}
    assert subprocess.run(command, capture_output=True).returncode == 60  # not trusted


def test_https_can_be_left_out(serve: Serve) -> None:
    plain = {"IOT_BROKER_LISTENERS": '[{"host": "127.0.0.1", "port": 0}]'}
    broker = serve(environment={"IOT_BROKER_HTTPS__ENABLED": "false", **plain})
    assert [one["name"] for one in broker.endpoints] == ["mqtt", "http"]
    assert not (broker.data_dir / "tls").exists()
    assert "clients trust" not in broker.output


# ---------------------------------------------------------------- what is spoken


def s_client(broker: Served, *arguments: str) -> str:
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{broker.port('https')}", *arguments]
    done = subprocess.run(command, input="", capture_output=True, text=True, timeout=20)
    return done.stdout + done.stderr


@pytest.mark.needs("openssl")
def test_tls_1_2_and_1_3_are_spoken_and_nothing_older(served: Served) -> None:
    trust = ("-CAfile", str(served.data_dir / "tls" / "ca.pem"), "-verify_return_error")
    for version, name in (("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")):
        said = s_client(served, version, *trust, "-alpn", "h2,http/1.1")
        assert f"New, {name}, Cipher is" in said
        assert "Verify return code: 0 (ok)" in said
        assert "Compression: NONE" in said
        assert "ALPN protocol: http/1.1" in said
    for version in ("-tls1", "-tls1_1"):
        assert "Cipher is (NONE)" in s_client(served, version, "-cipher", "ALL:@SECLEVEL=0")


@pytest.mark.needs("openssl")
@pytest.mark.parametrize("cipher", ["AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-AES256-SHA"])
def test_ciphers_without_forward_secrecy_or_authentication_are_not_taken(served: Served, cipher: str) -> None:
    assert "Cipher is (NONE)" in s_client(served, "-tls1_2", "-cipher", f"{cipher}:@SECLEVEL=0")


@pytest.mark.needs("openssl")
def test_a_session_can_be_resumed(served: Served, tmp_path: Path) -> None:
    kept = str(tmp_path / "session")
    s_client(served, "-tls1_2", "-sess_out", kept)
    assert "Reused, TLSv1.2" in s_client(served, "-tls1_2", "-sess_in", kept)


@pytest.mark.parametrize(("trusted", "left"), [("[]", [1199, 1198]), ('["127.0.0.0/8"]', [1199, 1199])])
def test_requests_without_a_key_are_counted_for_whom_a_trusted_proxy_speaks(
    serve: Serve, trusted: str, left: list[int]
) -> None:
    broker = serve(environment={"IOT_BROKER_TRUSTED_PROXIES": trusted})
    with api(broker) as client:
        told = []
        for caller in ("192.0.2.1", "192.0.2.2"):
            answer = client.get("/v1/iot/devices", headers={"X-Forwarded-For": f"127.0.0.1, {caller}"})
            assert answer.status_code == 401
            told.append(int(answer.headers["X-RateLimit-Remaining"]))
    assert told == left


def test_metrics_are_for_loopback_over_https_too(served: Served) -> None:
    with api(served) as client:
        assert "iot_broker_certificate_not_after_seconds" in client.get("/metrics").text
        assert client.get("/metrics", headers={"X-Forwarded-For": "127.0.0.1"}).status_code == 404


# ---------------------------------------------------------------- certificates of one's own, and other ones


PLAIN = '[[listeners]]\nhost = "127.0.0.1"\nport = 0\n'
"""Then HTTPS alone needs a certificate."""


class Rotated:
    """A broker on PEM files of its operator's, issued by a root that its clients trust."""

    def __init__(self, serve: Serve, folder: Path) -> None:
        self.folder = folder
        self.root = pki.authority()
        (folder / "root.pem").write_bytes(self.root.pem)
        self.first = self.issue("first")
        certificate, key = self.first.write(folder)
        file = folder / "broker.toml"
        file.write_text(f'{PLAIN}[https]\ncertificate_file = "{certificate}"\nprivate_key_file = "{key}"\n')
        self.broker: Served = serve("--config", str(file), "--https-port", "0")

    def issue(self, name: str, **how: Any) -> pki.Issued:
        return pki.issue(name, by=self.root, names=("localhost", "127.0.0.1.example"), **how)

    def api(self) -> httpx.Client:
        context = ssl.create_default_context(cafile=self.folder / "root.pem")
        base = f"https://localhost:{self.broker.port('https')}"
        return httpx.Client(base_url=base, verify=context, timeout=10, trust_env=False)


@pytest.fixture
def rotated(serve: Serve, tmp_path: Path) -> Rotated:
    return Rotated(serve, tmp_path)


@pytest.fixture
def traffic(rotated: Rotated) -> Iterator[list[str]]:
    """Requests all the time, on one connection that stays and on new ones; what went wrong, when it has ended."""
    wrong: list[str] = []
    end = threading.Event()

    def ask() -> None:
        with rotated.api() as kept:
            while not end.is_set():
                try:
                    assert kept.get("/healthz").status_code == 200
                    with rotated.api() as fresh:
                        assert fresh.get("/healthz").status_code == 200
                except (httpx.HTTPError, AssertionError) as error:
                    wrong.append(repr(error))

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    yield wrong
    end.set()
    for thread in threads:
        thread.join(20)
    assert wrong == []


def test_a_changed_certificate_is_taken_under_requests_of_which_none_fails(
    rotated: Rotated, traffic: list[str]
) -> None:
    broker = rotated.broker
    assert is_shown(broker, rotated.first)
    assert not (broker.data_dir / "tls").exists()
    rsa = pki.rsa.generate_private_key(65537, 2048)
    for number, key in enumerate((None, rsa, None)):
        one = rotated.issue(f"number {number}", key=key)
        one.write(rotated.folder)
        await_that(lambda one=one: is_shown(broker, one), "the new certificate is not shown")
    assert metric(broker, "iot_broker_certificate_reloads_total") == {"taken": 3, "refused": 0}
    assert traffic == []


@pytest.mark.usefixtures("traffic")
def test_sighup_reads_at_once_and_ends_nothing(rotated: Rotated) -> None:
    second = rotated.issue("second")
    second.write(rotated.folder)
    rotated.broker.send_signal(signal.SIGHUP)
    until = time.monotonic() + 1.0
    while not is_shown(rotated.broker, second):
        assert time.monotonic() < until, "not at once"
    for _ in range(20):
        rotated.broker.send_signal(signal.SIGHUP)
    assert rotated.broker.http.get("/readyz").json() == {"status": "ready"}


@pytest.mark.usefixtures("traffic")
@pytest.mark.parametrize("how", ["junk", "gone", "other key"])
def test_broken_files_are_refused_aloud_and_the_old_ones_stay(rotated: Rotated, how: str) -> None:
    broker, key = rotated.broker, rotated.folder / "server.key"
    if how == "gone":
        key.unlink()
    else:
        pki.replace(key, b"junk" if how == "junk" else pki.issue("other").key_pem)
    await_that(lambda: broker.http.get("/readyz").json()["status"] == "degraded", "nobody is told")
    told = broker.http.get("/readyz")
    assert told.status_code == 200
    assert told.json()["reason"].startswith(f"certificate_refused: https: {key}: ")
    assert metric(broker, "iot_broker_certificate_reloads_total") == {"taken": 0, "refused": 1}
    assert "a certificate was refused, the old one stays" in broker.log
    assert is_shown(broker, rotated.first)
    second = rotated.issue("second")
    second.write(rotated.folder)
    await_that(lambda: is_shown(broker, second), "the new certificate is not shown")
    assert broker.http.get("/readyz").json() == {"status": "ready"}


def test_a_certificate_that_ends_soon_is_a_warning_and_a_figure(rotated: Rotated) -> None:
    broker = rotated.broker
    soon = rotated.issue("soon", ends=pki.datetime.now(pki.UTC) + 5 * pki.DAY)
    soon.write(rotated.folder)
    broker.send_signal(signal.SIGHUP)
    await_that(lambda: broker.http.get("/readyz").json()["status"] == "degraded", "nobody is told")
    assert "certificate_expiry: https: the certificate ends on" in broker.http.get("/readyz").json()["reason"]
    ends = metric(broker, "iot_broker_certificate_not_after_seconds")
    assert ends == {"https": int(soon.certificate.not_valid_after_utc.timestamp())}


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: (folder / "server.key").unlink(), "server.key: No such file or directory"),
        (lambda folder: (folder / "server.pem").write_text("junk"), "server.pem: no certificate in PEM"),
        (lambda folder: (folder / "server.key").write_bytes(pki.issue("x").key_pem), "not the key of the certificate"),
    ],
)
def test_files_that_cannot_be_used_stop_the_start_in_one_line(
    tmp_path: Path, spoil: Callable[[Path], object], words: str
) -> None:
    certificate, key = pki.issue("first").write(tmp_path)
    spoil(tmp_path)
    file = tmp_path / "broker.toml"
    file.write_text(f'[https]\ncertificate_file = "{certificate}"\nprivate_key_file = "{key}"\n')
    refused = run_cli("serve", "--config", file, "--data-dir", tmp_path / "data", *PORTS)
    assert refused.returncode == 2
    (line,) = [line for line in refused.stderr.splitlines() if line.startswith("iot-broker: ")]
    assert words in line
    assert "wayscloud_iot_prod_" not in refused.stdout  # no key was made that nobody saw
    shutil.rmtree(tmp_path / "data")


# ---------------------------------------------------------------- strangers


def test_strangers_at_the_door_leave_no_traceback_and_no_descriptor(serve: Serve) -> None:
    broker = serve()
    before = broker.descriptors()
    for sent in (b"GET / HTTP/1.1\r\n\r\n", b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00", os.urandom(500), b"\x16"):
        for _ in range(10):
            with socket.create_connection(("127.0.0.1", broker.port("https")), timeout=10) as stranger:
                stranger.sendall(sent)
                if len(sent) > 1:
                    assert b"HTTP" not in stranger.recv(1000)
    with api(broker) as client:
        assert client.get("/healthz").status_code == 200
    await_that(lambda: broker.descriptors() <= before, "sockets are left open")
    assert "Traceback" not in broker.log


def test_the_stop_does_not_wait_for_handshakes(serve: Serve) -> None:
    broker = serve()
    stalled = [socket.create_connection(("127.0.0.1", broker.port("https")), timeout=10) for _ in range(20)]
    time.sleep(0.2)
    began = time.monotonic()
    assert broker.stop() == 0
    assert time.monotonic() - began < 4
    for one in stalled:
        one.close()
