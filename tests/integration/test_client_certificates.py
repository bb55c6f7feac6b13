"""Devices that come in by their certificates, with paho over TLS and secure WebSockets, and how that ends."""

from __future__ import annotations

import queue
import socket
import ssl
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from cryptography import x509
from paho.mqtt.enums import CallbackAPIVersion

from broker._core.packets import decode, encode
from broker.wire import Connack, Connect
from tests.integration.served import Login, Served, end_all
from tests.support import pki
from tests.support.paho import leave

WAIT_S = 20.0
CUT_WITHIN_S = 1.0
NOTICED_WITHIN_S = 8.0  # a file that changes has to come to rest first
V311, V5 = paho.MQTTv311, paho.MQTTv5
VERSIONS = pytest.mark.parametrize("version", [V311, V5], ids=["3.1.1", "5.0"])
ENCRYPTED = pytest.mark.parametrize("listener", ["tls", "wss"])
ADMINISTRATIVE_ACTION = 0x98

CONFIG = """
store_map_size_bytes = 67108864
{listeners}
[http]
port = 0
[https]
enabled = false
"""
LISTENER = """
[[listeners]]
name = "{name}"
transport = "{transport}"
host = "127.0.0.1"
port = 0
"""
ASKING = """client_certificate = "{asked}"
certificate_names = "{names}"
client_ca_file = "{folder}/devices.pem"
crl_file = "{folder}/revoked.pem"
"""


@dataclass
class Ended:
    """How a connection ended, and when."""

    reason: int
    at: float


class Client:
    """One paho client, which does not come back by itself; ``entered`` is its CONNACK's code, None without one."""

    def __init__(self, client_id: str, version: int, transport: str, user: tuple[str | None, str | None]) -> None:
        self.connacks: queue.Queue[int] = queue.Queue()
        self.ends: queue.Queue[Ended] = queue.Queue()
        self.messages: queue.Queue[bytes] = queue.Queue()
        self.answers: queue.Queue[Any] = queue.Queue()
        self.client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id, protocol=paho.MQTTProtocolVersion(version), transport=transport
        )
        if user[0] is not None:
            self.client.username_pw_set(*user)
        self.client.on_connect = lambda client, data, flags, reason, properties: self.connacks.put(reason.value)
        self.client.on_subscribe = lambda client, data, mid, reasons, properties: self.answers.put(reasons)
        self.client.on_disconnect = self._on_disconnect
        self.client.on_message = lambda client, data, message: self.messages.put(message.payload)
        self.client.reconnect_delay_set(60, 60)
        self.entered: int | None = None

    def _on_disconnect(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        self.ends.put(Ended(reason.value, time.monotonic()))

    def enter(self, port: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # paho leaves the socket of such a handshake open
            try:
                self.client.connect("127.0.0.1", port, 60)
            except OSError:  # the handshake failed; in TLS 1.3 it may also be the first read that does
                return
        self.client.loop_start()
        until = time.monotonic() + WAIT_S
        while self.connacks.empty() and self.ends.empty() and time.monotonic() < until:
            time.sleep(0.02)
        if not self.connacks.empty():  # before its end, if both are there
            self.entered = self.connacks.get()

    def is_in(self) -> bool:
        """Whether it is connected and served: what it asks for is answered."""
        if self.entered != 0 or not self.ends.empty():
            return False
        self.client.subscribe("devices/of/somebody/else")
        try:
            self.answers.get(timeout=WAIT_S)
        except queue.Empty:
            return False
        return self.ends.empty()

    def close(self) -> None:
        leave(self.client)


class House:
    """A broker with listeners of all kinds, the authority of its devices, and clients that end with the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = pki.authority("Devices CA")
        pki.replace(folder / "devices.pem", self.ca.pem)
        self.revoked: list[pki.Issued] = []
        self.revoke()
        listeners = LISTENER.format(name="plain", transport="tcp")
        for name, transport, asked, names in (
            ("tls", "tls", "required", "subject"),
            ("wss", "wss", "required", "subject"),
            ("optional", "tls", "optional", "san"),
        ):
            listeners += LISTENER.format(name=name, transport=transport)
            listeners += ASKING.format(asked=asked, names=names, folder=folder)
        listeners += LISTENER.format(name="unasked", transport="tls")
        (folder / "broker.toml").write_text(CONFIG.format(listeners=listeners))
        self.served = Served(folder / "data", "--config", folder / "broker.toml")
        self.clients: list[Client] = []

    def issue(self, name: str, *names: str | x509.GeneralName, by: pki.Issued | None = None) -> pki.Issued:
        return pki.client(name, by or self.ca, *names)

    def revoke(self, *certificates: pki.Issued) -> None:
        self.revoked += certificates
        pki.replace(self.folder / "revoked.pem", pki.revoked(self.ca, *self.revoked))

    def come(
        self,
        listener: str,
        shown: pki.Issued | None = None,
        *,
        version: int = V5,
        login: Login | None = None,
        user: tuple[str | None, str | None] = (None, None),
    ) -> Client:
        user = (login.username, login.password) if login else user
        client = Client(f"client-{len(self.clients)}", version, "websockets" if listener == "wss" else "tcp", user)
        self.clients.append(client)
        if listener != "plain":
            client.client.tls_set(str(self.served.data_dir / "tls" / "ca.pem"), *self._files(shown))
        client.enter(self.served.port(listener))
        return client

    def _files(self, shown: pki.Issued | None) -> tuple[str, ...]:
        if shown is None:
            return ()
        return tuple(str(path) for path in shown.write(self.folder, name=f"client-{shown.certificate.serial_number}"))

    def patch(self, device: Login, **fields: Any) -> Any:
        answer = self.served.call("PATCH", f"/devices/{device.device_id}", fields)
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    one = House(tmp_path_factory.mktemp("house"))
    try:
        yield one
    finally:
        end_all([one.served])


@pytest.fixture
def house(shared: House) -> Iterator[House]:
    yield shared
    while shared.clients:
        shared.clients.pop().close()


def assert_cut(client: Client, version: int, since: float, within_s: float = CUT_WITHIN_S) -> None:
    ended = client.ends.get(timeout=WAIT_S)
    assert ended.at - since < within_s
    if version == V5:
        assert ended.reason == ADMINISTRATIVE_ACTION


def refusal(version: int) -> int:
    return 0x87  # paho gives 3.1.1's code 5 as this


# ---------------------------------------------------------------- coming in


@VERSIONS
@ENCRYPTED
def test_a_bound_device_comes_in_by_its_certificate_alone_and_is_served(
    house: House, listener: str, version: int
) -> None:
    shown = house.issue("whoever")
    device = house.served.register(certificate_fingerprint=shown.fingerprint.upper())
    client = house.come(listener, shown, version=version)
    assert client.entered == 0
    client.client.subscribe(device.topic("commands"), 1)
    answer = {"state": ""}
    until = time.monotonic() + WAIT_S
    while answer["state"] != "sent" and time.monotonic() < until:  # its SUBSCRIBE is on its way
        answer = house.served.call("POST", f"/devices/{device.device_id}/commands", {"payload": 1}).json()
    assert client.messages.get(timeout=WAIT_S) == b"1"
    assert house.served.call("GET", f"/devices/{device.device_id}").json()["online"] is True


def test_subject_and_san_name_a_device_where_the_listener_looks(house: House) -> None:
    device = house.served.register()
    by_subject, by_san = house.issue(device.device_id), house.issue("x", device.device_id)
    by_urn = house.issue("x", x509.UniformResourceIdentifier(f"urn:iot:{device.device_id}"))
    assert house.come("tls", by_subject).entered == 0
    assert house.come("wss", by_subject, user=(device.username, None)).entered == 0
    assert house.come("optional", by_san).entered == 0
    assert house.come("optional", by_urn).entered == 0
    for listener, shown in (("tls", by_san), ("optional", by_subject), ("wss", by_urn)):
        assert house.come(listener, shown).entered == refusal(V5)


@VERSIONS
@ENCRYPTED
def test_without_a_certificate_or_with_a_strangers_nobody_shakes_hands_where_it_is_required(
    house: House, listener: str, version: int
) -> None:
    device = house.served.register()
    stranger = house.issue(device.device_id, by=pki.authority("Devices CA"))
    for shown in (None, stranger):
        assert house.come(listener, shown, version=version, login=device).entered is None


@VERSIONS
def test_the_wrong_devices_certificate_is_refused_whatever_the_password(house: House, version: int) -> None:
    shown = house.issue("x")
    bound = house.served.register(certificate_fingerprint=shown.fingerprint)
    other = house.served.register()
    wrong = house.issue(bound.device_id)  # names it, but it is bound to another one
    assert house.come("tls", shown, version=version, login=other).entered == refusal(version)
    assert house.come("tls", wrong, version=version).entered == refusal(version)
    assert house.come("tls", wrong, version=version, login=bound).entered == refusal(version)
    assert house.come("tls", wrong, version=version, login=other).entered == 0  # it names nobody: a password will do


@VERSIONS
def test_a_bound_devices_password_is_for_listeners_that_ask_for_no_certificate(house: House, version: int) -> None:
    bound = house.served.register(certificate_fingerprint=house.issue("x").fingerprint)
    plain = house.served.register()
    application = ("apikey", house.served.api_key)
    for listener in ("plain", "unasked"):
        assert house.come(listener, version=version, login=bound).entered == 0
        assert house.come(listener, version=version, login=plain).entered == 0
        assert house.come(listener, version=version, user=application).entered == 0
    assert house.come("optional", version=version, login=bound).entered == refusal(version)
    assert house.come("optional", version=version, login=plain).entered == 0
    assert house.come("optional", version=version, user=application).entered == 0
    assert house.come("optional", version=version).entered == refusal(version)


# ---------------------------------------------------------------- being cut


@VERSIONS
@ENCRYPTED
@pytest.mark.parametrize("end", ["unbound", "bound to another", "inactive", "deleted"])
def test_who_came_in_by_a_certificate_is_cut_with_it(house: House, listener: str, version: int, end: str) -> None:
    shown = house.issue("x")
    device = house.served.register(certificate_fingerprint=shown.fingerprint)
    client = house.come(listener, shown, version=version)
    by_password = house.come("plain", version=version, login=device)
    assert (client.entered, by_password.entered) == (0, 0)
    since = time.monotonic()
    if end == "unbound":
        assert house.patch(device, certificate_fingerprint=None)["certificate_fingerprint"] is None
    elif end == "bound to another":
        house.patch(device, certificate_fingerprint=house.issue("y").fingerprint)
    elif end == "inactive":
        house.patch(device, status="inactive")
    else:
        assert house.served.call("DELETE", f"/devices/{device.device_id}").status_code == 204
    assert_cut(client, version, since)
    if end in ("inactive", "deleted"):
        assert_cut(by_password, version, since)
    else:
        assert by_password.is_in()
    assert house.come(listener, shown, version=version).entered == refusal(version)


@VERSIONS
@ENCRYPTED
def test_a_list_that_takes_a_certificate_back_cuts_who_came_in_by_it_and_lets_nobody_in_again(
    house: House, listener: str, version: int
) -> None:
    bad, good = house.issue("bad"), house.issue("good")
    one = house.served.register(certificate_fingerprint=bad.fingerprint)
    two = house.served.register(certificate_fingerprint=good.fingerprint)
    cut = house.come(listener, bad, version=version)
    kept, by_password = house.come(listener, good, version=version), house.come("plain", version=version, login=one)
    assert (cut.entered, kept.entered, by_password.entered) == (0, 0, 0)
    since = time.monotonic()
    house.revoke(bad)
    assert_cut(cut, version, since, NOTICED_WITHIN_S)
    assert house.come(listener, bad, version=version).entered is None
    assert house.come("optional", bad, version=version, login=two).entered is None
    assert kept.is_in()
    assert by_password.is_in()


def test_who_shook_hands_before_its_certificate_was_taken_back_is_refused_at_its_connect(house: House) -> None:
    bad = house.issue("bad")
    house.served.register(certificate_fingerprint=bad.fingerprint)
    context = ssl.create_default_context(cafile=house.served.data_dir / "tls" / "ca.pem")
    context.load_cert_chain(*bad.write(house.folder, name="early"))
    plain = socket.create_connection(("127.0.0.1", house.served.port("tls")), timeout=WAIT_S)
    with plain, context.wrap_socket(plain, server_hostname="127.0.0.1") as early:
        other = house.come("tls", bad)
        house.revoke(bad)
        other.ends.get(timeout=WAIT_S)
        early.sendall(encode(Connect("early", True, 60), 5))
        answer = decode(early.recv(1000), 5, from_client=False)
    assert isinstance(answer, Connack)
    assert answer.reason_code == refusal(V5)
