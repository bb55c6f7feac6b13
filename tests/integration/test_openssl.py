"""What the encrypted doors speak, as ``openssl s_client`` sees it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.openssl import ANYTHING, PATIENCE_S, OpenSsl, accepted, cipher, report
from tests.integration.printed import authority
from tests.integration.served import PORTS, Served, end_all
from tests.integration.wire import V5, connect, publish, subscribe
from tests.support import pki

pytestmark = pytest.mark.needs("openssl")
BOTH = pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
DOORS = pytest.mark.parametrize("name", ["mqtts", "wss", "https"])
GOOD = re.compile(r"ECDHE-(ECDSA|RSA)-(AES(128|256)-GCM-SHA(256|384)|CHACHA20-POLY1305)")
FRAGMENT_BYTES = 2048
OVERHEAD_BYTES = 8 + 16 + 1  # a nonce, a tag, and the inner type of TLS 1.3
HEADER = re.compile(r"RecordHeader[^\n]*\n\s+17 03 03 ([0-9a-f]{2}) ([0-9a-f]{2})")


@pytest.fixture(scope="module")
def rsa(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an authority and a server's RSA key: only such a one could do a key exchange without secrecy."""
    folder = tmp_path_factory.mktemp("rsa")
    ca = pki.authority()
    (folder / "ca.pem").write_bytes(ca.pem)
    key = pki.rsa.generate_private_key(65537, 2048)
    pki.issue("server", by=ca, key=key, names=("127.0.0.1",)).write(folder)
    return folder


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, rsa: Path) -> Iterator[Served]:
    """A broker with one more listener, whose key is RSA."""
    files = {"certificate_file": str(rsa / "server.pem"), "private_key_file": str(rsa / "server.key")}
    listeners = [{"transport": one, "port": 0} for one in ("tcp", "tls", "wss")]
    listeners.append({"name": "rsa", "transport": "tls", "port": 0, **files})
    environment = {"IOT_BROKER_LISTENERS": json.dumps(listeners)}
    broker = Served(tmp_path_factory.mktemp("openssl") / "data", *PORTS, environment=environment)
    try:
        yield broker
    finally:
        end_all([broker])


@pytest.fixture
def openssl(program: Callable[[str], str]) -> str:
    return program("openssl")


@DOORS
@BOTH
def test_tls_1_2_and_1_3_are_spoken_without_compression(served: Served, openssl: str, name: str, version: str) -> None:
    code, text = report(openssl, served.port(name), authority(served), version)
    assert code == 0, text
    assert "Verify return code: 0 (ok)" in text
    assert f"New, TLSv1.{version[-1]}, Cipher is" in text
    assert "Compression: NONE" in text


@DOORS
@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_older_versions_are_refused_and_by_mqtt_in_words(served: Served, openssl: str, name: str, version: str) -> None:
    code, text = report(openssl, served.port(name), authority(served), version, "-cipher", ANYTHING)
    assert code != 0
    assert "Cipher is (NONE)" in text
    assert name == "https" or "alert protocol version" in text  # an event loop closes without its last words


@pytest.mark.parametrize("name", ["mqtts", "wss", "https", "rsa"])
def test_every_cipher_of_tls_1_2_that_is_taken_has_forward_secrecy_and_is_authenticated(
    served: Served, openssl: str, rsa: Path, name: str
) -> None:
    taken = accepted(openssl, served.port(name), rsa / "ca.pem" if name == "rsa" else authority(served))
    assert len(taken) >= 3
    assert [one for one in taken if not GOOD.fullmatch(one)] == []


@DOORS
def test_ciphers_of_tls_1_3_are_the_three_that_everybody_has(served: Served, openssl: str, name: str) -> None:
    known = ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"]
    for suite in known:
        code, text = report(openssl, served.port(name), authority(served), "-tls1_3", "-ciphersuites", suite)
        assert (code, cipher(text)) == (0, suite)
    weak = ["-tls1_3", "-ciphersuites", "TLS_AES_128_CCM_8_SHA256:TLS_AES_128_CCM_SHA256"]
    assert report(openssl, served.port(name), authority(served), *weak)[0] != 0


@DOORS
def test_who_wants_to_renegotiate_is_refused(served: Served, openssl: str, name: str) -> None:
    with OpenSsl(openssl, served.port(name), authority(served), "-tls1_2") as client:
        client.until(b"Verify return code: 0 (ok)")
        client.send(b"R\n")
        assert b"RENEGOTIATING" in client.until(None)
        assert "no renegotiation" in client.text
    assert report(openssl, served.port(name), authority(served))[0] == 0


@pytest.mark.parametrize(("name", "protocol"), [("mqtts", "mqtt"), ("wss", "http/1.1"), ("https", "http/1.1")])
@BOTH
def test_the_protocol_of_the_door_is_agreed_with_who_offers_it(
    served: Served, openssl: str, name: str, protocol: str, version: str
) -> None:
    offered = ["-alpn", f"h2,{protocol}", version]
    code, text = report(openssl, served.port(name), authority(served), *offered)
    assert code == 0, text
    assert f"ALPN protocol: {protocol}" in text


def wait_for(file: Path) -> None:
    """Wait until ``s_client`` has written it: it keeps its words about a ticket for later."""
    until = time.monotonic() + PATIENCE_S
    while not file.exists() or b"END SSL SESSION" not in file.read_bytes():
        assert time.monotonic() < until, "there was no ticket"
        time.sleep(0.01)


@DOORS
@BOTH
def test_a_session_is_resumed_by_its_ticket(
    served: Served, openssl: str, tmp_path: Path, name: str, version: str
) -> None:
    ticket = tmp_path / "ticket"
    with OpenSsl(openssl, served.port(name), authority(served), version, "-sess_out", str(ticket)) as client:
        # In TLS 1.3 it comes behind the handshake.
        if name == "https":
            client.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")  # with the first answer
        wait_for(ticket)
    code, text = report(openssl, served.port(name), authority(served), version, "-sess_in", str(ticket))
    assert code == 0, text
    assert f"Reused, TLSv1.{version[-1]}" in text


@BOTH
def test_who_has_room_for_small_fragments_alone_gets_no_larger_ones(
    served: Served, openssl: str, tmp_path: Path, version: str
) -> None:
    records = tmp_path / "records"
    options = [version, "-maxfraglen", str(FRAGMENT_BYTES), "-quiet", "-msg", "-msgfile", str(records)]
    topic_name, payload = "devices/small/telemetry", bytes(range(256)) * 256
    with OpenSsl(openssl, served.port("mqtts"), authority(served), *options) as client:
        client.send(connect(V5, "small", "apikey", served.api_key))
        client.send(subscribe(V5, 1, [topic_name], options=0))
        client.send(publish(V5, topic_name, payload) + publish(V5, topic_name, b"the end"))
        assert payload in client.until(b"the end")
    sizes = [int(high + low, 16) for high, low in HEADER.findall(records.read_text())]
    assert len(sizes) > len(payload) // FRAGMENT_BYTES
    assert max(sizes) <= FRAGMENT_BYTES + OVERHEAD_BYTES
