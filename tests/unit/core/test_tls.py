"""TLS on the native core, by OpenSSL and by Python's ssl objects: the same suite for both."""

from __future__ import annotations

import os
import select
import socket
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress

import pytest

from broker._core.packets import decode, encode
from broker._core.tls import TlsContext
from broker._core.tls_settings import CLIENT_CERTIFICATES_MAXIMUM_BYTES
from broker.engine.core import RareKind
from broker.wire import Connack, Connect, Disconnect, Pingreq, Publish, Subscribe, Subscription
from tests.support import pki
from tests.support.doors import Doors, opened
from tests.support.openssl_client import OpensslClient

CONNECT = encode(Connect("client", clean_start=True), 5)
PINGREQ, PINGRESP = encode(Pingreq(), 5), b"\xd0\x00"
V3, V2 = ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2
MIB = 1 << 20


@pytest.fixture(params=["openssl", "ssl objects"])
def native(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "openssl")


@pytest.fixture
def doors() -> Iterator[Doors]:
    with opened() as doors:
        yield doors


def context(native: bool, **options: object) -> TlsContext:
    made = TlsContext(pki.server().pem, pki.server().key_pem, native=native, **options)  # type: ignore[arg-type]  # of many kinds
    assert made.is_native == native, "OpenSSL cannot be used here"
    assert (made.fallback is None) == native
    return made


def trusting(version: ssl.TLSVersion | None = None, **files: bytes) -> ssl.SSLContext:
    """A client's context."""
    made = ssl.create_default_context(cadata=pki.trusted().pem.decode())
    if version is not None:
        made.minimum_version = made.maximum_version = version
    if files:
        with tempfile.NamedTemporaryFile() as file:
            file.write(files["certificate"] + files["key"])
            file.flush()
            made.load_cert_chain(file.name)
    return made


def dial(port: int, client: ssl.SSLContext, session: ssl.SSLSession | None = None) -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", port), timeout=20)
    try:
        return client.wrap_socket(plain, server_hostname="localhost", session=session)
    except BaseException:
        plain.close()
        raise


def read(stream: socket.socket, n: int) -> bytes:
    """Exactly n bytes, or what came before the end."""
    got = b""
    while len(got) < n and (more := stream.recv(n - len(got))):
        got += more
    return got


def enter(stream: socket.socket, client_id: str = "client") -> None:
    """CONNECT and its answer."""
    stream.sendall(encode(Connect(client_id, clean_start=True), 5))
    head = read(stream, 2)
    answer = decode(head + read(stream, head[1]), 5, from_client=False)
    assert isinstance(answer, Connack)
    assert answer.reason_code == 0


def talk(port: int, client: ssl.SSLContext) -> tuple[str | None, str]:
    """A whole small life; gives version and cipher."""
    with dial(port, client) as stream:
        enter(stream)
        stream.sendall(PINGREQ)
        assert read(stream, 2) == PINGRESP
        cipher = stream.cipher()
        assert cipher is not None
        found = stream.version(), cipher[0]
        stream.sendall(encode(Disconnect(), 5))
        assert read(stream, 1) == b""  # a close_notify: an end without it would raise
        return found


# ---------------------------------------------------------------- protocol and ciphers


@pytest.mark.parametrize("version", [V2, V3])
def test_a_client_connects_and_is_told_the_end(doors: Doors, native: bool, version: ssl.TLSVersion) -> None:
    port = doors.listen(context(native))
    name, cipher = doors.during(lambda: talk(port, trusting(version)))
    assert name == {V2: "TLSv1.2", V3: "TLSv1.3"}[version]
    assert "GCM" in cipher or "CHACHA20" in cipher
    assert version is V3 or cipher.startswith("ECDHE-")
    doors.until(lambda: doors.reactor.figures()["sockets"] == 0)
    assert doors.reactor.figures()["handshakes"] == 1


def test_older_versions_and_weak_ciphers_are_refused(doors: Doors, native: bool) -> None:
    port = doors.listen(context(native))
    old = trusting()
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    weak = trusting(V2)
    weak.set_ciphers("AES128-SHA:AES256-GCM-SHA384:ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-SHA")
    for client in (old, weak):
        with pytest.raises(ssl.SSLError):
            doors.during(lambda client=client: talk(port, client))  # type: ignore[misc]
    doors.until(lambda: doors.reactor.figures()["failed_handshakes"] == 2)
    assert {name for name, _ in doors.core.observer.events} == {"tls_failed"}
    assert all(fields["why"] for _, fields in doors.core.observer.events)


@pytest.mark.parametrize(
    ("offered", "chosen"), [(["mqtt"], "mqtt"), (["h2", "mqtt"], "mqtt"), (["h2"], None), ([], None)]
)
def test_the_protocol_mqtt_is_chosen_when_it_is_offered(
    doors: Doors, native: bool, offered: list[str], chosen: str | None
) -> None:
    port = doors.listen(context(native))
    client = trusting()
    if offered:
        client.set_alpn_protocols(offered)

    def run() -> str | None:
        with dial(port, client) as stream:
            enter(stream)
            return stream.selected_alpn_protocol()

    assert doors.during(run) == chosen


def test_what_is_no_tls_is_closed_and_named(doors: Doors, native: bool) -> None:
    port = doors.listen(context(native))

    def say(words: bytes) -> bytes:
        with closing(socket.create_connection(("127.0.0.1", port), timeout=20)) as stream:
            stream.sendall(words)
            try:
                return read(stream, 100)
            except ConnectionResetError:
                return b""

    hello = b"\x16\x03\x01\xff\xff" + bytes(100)
    for words in (CONNECT, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", bytes(range(256)), hello):
        answer = doors.during(lambda words=words: say(words))  # type: ignore[misc]
        assert answer == b"" or answer[0] == 21, answer  # an alert at most
    assert {one[0] for one in doors.rare} == {RareKind.TLS_FAILED}
    assert len(doors.rare) == 4
    doors.until(lambda: doors.reactor.figures()["sockets"] == 0)


def test_tls_on_the_plain_port_is_closed(doors: Doors) -> None:
    port = doors.listen()
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        doors.during(lambda: talk(port, trusting()))
    assert doors.core.shard.counters()["connections_accepted"] == 1
    doors.until(lambda: doors.reactor.figures()["sockets"] == 0)


# ---------------------------------------------------------------- records


@pytest.mark.parametrize("version", [V2, V3])
@pytest.mark.parametrize("size", [1, 16_383, 16_384, 16_385, 65_537, MIB - 100])
def test_messages_of_all_sizes_pass(doors: Doors, native: bool, version: ssl.TLSVersion, size: int) -> None:
    port = doors.listen(context(native))
    payload = os.urandom(size)

    def run() -> bytes:
        with dial(port, trusting(version)) as stream:
            enter(stream)
            stream.sendall(encode(Subscribe(1, (Subscription("a"),)), 5) + encode(Publish("a", payload), 5))
            assert read(stream, 6)[0] == 0x90
            expected = encode(Publish("a", payload), 5)
            got = read(stream, len(expected))
            assert got == expected
            return got

    doors.during(run)


def test_many_records_in_one_segment_are_all_read_although_the_kernel_shows_nothing_any_more(
    doors: Doors, native: bool
) -> None:
    port = doors.listen(context(native))

    def run() -> None:
        with dial(port, trusting()) as stream:
            enter(stream)
            stream.sendall(encode(Subscribe(1, (Subscription("a"),)), 5) + encode(Publish("a", bytes(200)), 5) * 3000)
            assert read(stream, 6)[0] == 0x90
            one = encode(Publish("a", bytes(200)), 5)
            assert read(stream, len(one) * 3000) == one * 3000

    doors.during(run)


@pytest.mark.parametrize("cut", [1, 100, 1000, 5000, 16_000, 16_384, 20_000])
def test_what_tls_holds_of_a_stopped_connection_is_read_when_it_goes_on(doors: Doors, native: bool, cut: int) -> None:
    """The last record lies within TLS, and the kernel has nothing more to show, when the CONNECT begins to wait."""
    port = doors.listen(context(native), is_open=False)
    large = encode(Publish("a", bytes((1 << 16) - len(CONNECT) - 8)), 5)
    assert len(CONNECT + large) == 1 << 16, "one read of the reactor's"
    stream = doors.during(lambda: dial(port, trusting()))
    with stream:
        doors.until(lambda: doors.reactor.figures()["handshakes"] == 1)
        for part in (CONNECT, large[:cut], large[cut:], PINGREQ):  # how far OpenSSL reads ahead depends on the cut
            stream.sendall(part)
        doors.admit()
        assert doors.during(lambda: read(stream, 1)) == b"\x20"
        assert PINGRESP in doors.during(lambda: stream.recv(1000) + stream.recv(1000))


def test_records_of_one_byte_and_segments_of_one_byte(doors: Doors, native: bool) -> None:
    port = doors.listen(context(native))

    def run() -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = trusting().wrap_bio(incoming, outgoing, server_hostname="localhost")
        with closing(socket.create_connection(("127.0.0.1", port), timeout=20)) as plain:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

            def call(what: Callable[[], object]) -> object:
                while True:
                    try:
                        return what()
                    except ssl.SSLWantReadError:
                        trickle(plain, outgoing.read())
                        incoming.write(plain.recv(1 << 16))
                    finally:
                        trickle(plain, outgoing.read())

            call(tls.do_handshake)
            for byte in CONNECT + PINGREQ:
                tls.write(bytes([byte]))
                trickle(plain, outgoing.read())
            got = b""
            while not got.endswith(PINGRESP):
                got += call(lambda: tls.read(1000))  # type: ignore[operator]

    doors.during(run)


def trickle(plain: socket.socket, data: bytes) -> None:
    for at in range(len(data)):
        plain.sendall(data[at : at + 1])


def test_a_client_that_reads_slowly_gets_everything(doors: Doors, native: bool) -> None:
    port = doors.listen(context(native))
    payload = os.urandom(200_000)

    def run() -> None:
        with ExitStack() as stack:
            plain = stack.enter_context(closing(socket.socket()))
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            plain.settimeout(20)
            plain.connect(("127.0.0.1", port))
            stream = stack.enter_context(trusting().wrap_socket(plain, server_hostname="localhost"))
            enter(stream)
            stream.sendall(encode(Subscribe(1, (Subscription("a", 1),)), 5))
            assert read(stream, 6)[0] == 0x90
            for number in range(1, 6):
                stream.sendall(encode(Publish("a", payload, 1, packet_id=number), 5))
            got = b""
            wanted = 5 * len(encode(Publish("a", payload, 1, packet_id=1), 5)) + 5 * 4
            while len(got) < wanted:
                got += stream.recv(3000)
            assert got.count(payload) == 5

    doors.during(run)


def test_a_peer_that_vanishes_is_noticed(doors: Doors, native: bool) -> None:
    port = doors.listen(context(native))

    def run() -> None:
        stream = dial(port, trusting())
        enter(stream)
        plain = socket.socket(fileno=stream.detach())
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        plain.close()

    doors.during(run)
    doors.until(lambda: doors.reactor.figures()["sockets"] == 0)
    assert doors.core.shard.counters()["connections"] == 0


# ---------------------------------------------------------------- sessions


@pytest.mark.parametrize("version", [V2, V3])
def test_a_client_comes_back_with_a_ticket_also_after_a_reload(doors: Doors, version: ssl.TLSVersion) -> None:
    first = context(True)
    port = doors.listen(first)
    client = trusting(version)

    def come(session: ssl.SSLSession | None) -> tuple[ssl.SSLSession | None, bool | None]:
        with dial(port, client, session) as stream:
            enter(stream)
            return stream.session, stream.session_reused

    session, reused = doors.during(lambda: come(None))
    assert not reused
    assert doors.during(lambda: come(session))[1]
    other = pki.issue("other", by=pki.trusted())
    second = TlsContext(other.pem, other.key_pem, previous=first)
    doors.reactor.set_tls(0, second)
    del first
    renewed, reused = doors.during(lambda: come(session))
    assert reused
    assert version is V2 or renewed != session, "in TLS 1.3 a ticket is for one use"
    assert doors.reactor.figures()["resumptions"] == 2


def test_who_is_connected_stays_when_the_certificate_changes(doors: Doors, native: bool) -> None:
    port = doors.listen(context(native))
    other = pki.issue("other", by=pki.trusted())
    stream = doors.during(lambda: dial(port, trusting()))
    with stream:
        doors.during(lambda: enter(stream))
        doors.reactor.set_tls(0, TlsContext(other.pem, other.key_pem, native=native))

        def run() -> bytes | None:
            stream.sendall(PINGREQ)
            assert read(stream, 2) == PINGRESP
            with dial(port, trusting()) as newcomer:
                return newcomer.getpeercert(True)

        assert doors.during(run) == other.der


# ---------------------------------------------------------------- certificates of clients


@pytest.mark.parametrize("version", [V2, V3])
@pytest.mark.parametrize("asked", ["optional", "required"])
def test_a_clients_certificate_is_verified_and_shown(
    doors: Doors, native: bool, asked: str, version: ssl.TLSVersion
) -> None:
    device = pki.client("device", pki.trusted())
    port = doors.listen(context(native, client_ca=pki.trusted().pem, client_certificate=asked), is_open=False)

    stream = doors.during(lambda: dial(port, trusting(version, certificate=device.pem, key=device.key_pem)))
    with stream:
        doors.during(lambda: stream.sendall(CONNECT))
        assert doors.admit().certificate == device.der
        assert doors.during(lambda: read(stream, 1)) == b"\x20"


def test_a_known_password_does_not_pass_by_a_certificate_or_the_lack_of_one(doors: Doors, native: bool) -> None:
    device = pki.client("device", pki.trusted())
    port = doors.listen(context(native, client_ca=pki.trusted().pem, client_certificate="optional"), is_open=False)
    doors.core.grant()
    connect = encode(Connect("c", user_name="user", password=b"pw", clean_start=True), 5)

    for files in ({}, {"certificate": device.pem, "key": device.key_pem}):
        stream = doors.during(lambda files=files: dial(port, trusting(**files)))  # type: ignore[misc]
        with stream:
            doors.during(lambda stream=stream: stream.sendall(connect))  # type: ignore[misc]
            assert doors.admit().certificate == (device.der if files else b"")
            principal = doors.core.shard.describe(handles(doors)[-1])["principal_id"]
            assert principal == 900  # whom the Authenticator named, not whose password it was


def test_without_or_with_a_wrong_or_revoked_certificate_nobody_comes_in(doors: Doors, native: bool) -> None:
    stranger = pki.client("device", pki.authority("Stranger"))
    revoked, good = (pki.client(name, pki.trusted()) for name in ("revoked", "good"))
    port = doors.listen(
        context(
            native, client_ca=pki.trusted().pem, crl=pki.revoked(pki.trusted(), revoked), client_certificate="required"
        )
    )

    def come(shown: pki.Issued | None) -> None:
        files = {} if shown is None else {"certificate": shown.pem, "key": shown.key_pem}
        with dial(port, trusting(**files)) as stream:
            stream.sendall(CONNECT)
            if read(stream, 1) == b"":
                raise ssl.SSLError

    for shown in (None, stranger, revoked):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            doors.during(lambda shown=shown: come(shown))  # type: ignore[misc]
    doors.during(lambda: come(good))
    assert doors.reactor.figures()["failed_handshakes"] == 3


# ---------------------------------------------------------------- stalls and storms


def test_a_handshake_that_stalls_ends_in_time(native: bool) -> None:
    with opened(connect_timeout_ns=300_000_000) as doors:
        port = doors.listen(context(native))
        whole = hello()

        def run() -> None:
            with ExitStack() as stack:
                stalled = []
                for part in (b"", whole[:3], whole[:100], whole):
                    stream = stack.enter_context(closing(socket.create_connection(("127.0.0.1", port), timeout=20)))
                    stream.sendall(part)
                    stalled.append(stream)
                for stream in stalled:
                    while stream.recv(1000):
                        pass

        doors.during(run)
        doors.until(lambda: doors.reactor.figures()["sockets"] == 0)


def test_who_is_connected_is_served_between_handshakes(doors: Doors) -> None:
    port = doors.listen(context(True))

    def run() -> int:
        served = 0
        with ExitStack() as stack:
            stream = stack.enter_context(dial(port, trusting()))
            enter(stream)
            hellos = [hello() for _ in range(150)]
            storm = [
                stack.enter_context(closing(socket.create_connection(("127.0.0.1", port), timeout=20))) for _ in hellos
            ]
            for plain, flight in zip(storm, hellos, strict=True):
                plain.sendall(flight)
            waiting = list(storm)
            while waiting:
                stream.sendall(PINGREQ)
                assert read(stream, 2) == PINGRESP
                served += 1
                waiting = [one for one in waiting if not readable(one)]
        return served

    assert doors.during(run) > 10, "the handshakes went before everybody else"


def test_a_hello_in_records_of_one_byte_is_read_over_many_rounds(doors: Doors, native: bool) -> None:
    """Read at once, sixty thousand of them held the loop for 24 ms."""
    port = doors.listen(context(native))
    client, out = trusting(), ssl.MemoryBIO()
    client.set_alpn_protocols(["x" * 200] * 60)
    with pytest.raises(ssl.SSLWantReadError):
        client.wrap_bio(ssl.MemoryBIO(), out, server_hostname="localhost").do_handshake()
    message = out.read()[5:]
    with closing(socket.create_connection(("127.0.0.1", port), timeout=20)) as plain:
        plain.sendall(b"".join(b"\x16\x03\x01\x00\x01" + message[at : at + 1] for at in range(len(message))))
        rounds = 0
        while not readable(plain):
            doors.round()
            rounds += 1
            assert rounds < 10_000
        assert plain.recv(1) == b"\x16"
    assert rounds > 5


@pytest.mark.parametrize("is_busy", [False, True])
def test_handshakes_rest_while_messages_come(doors: Doors, native: bool, is_busy: bool) -> None:
    port, plain_port = doors.listen(context(native)), doors.listen()
    with ExitStack() as stack:
        publisher = stack.enter_context(closing(socket.create_connection(("127.0.0.1", plain_port), timeout=20)))
        doors.during(lambda: enter(publisher))
        storm = []
        for _ in range(30):
            storm.append(stack.enter_context(closing(socket.create_connection(("127.0.0.1", port), timeout=20))))
            storm[-1].sendall(hello())
        if is_busy:
            publisher.sendall(encode(Publish("t", b"21.5"), 5))
        doors.until(lambda: all(readable(one) for one in storm))
    figures = doors.reactor.figures()
    assert figures["handshakes_ns"] > 0
    assert (figures["handshake_rests"] > 0) is is_busy


def test_who_comes_when_it_is_crowded_waits_in_the_kernel_and_is_served(native: bool) -> None:
    """Of those who come back at once nobody is refused for the others who have not spoken yet."""
    with opened(unauthenticated_connections_maximum=40) as doors:
        port = doors.listen(context(native))

        def run() -> None:
            with ExitStack() as stack:
                plains = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(120)]
                for plain in plains:
                    stack.enter_context(closing(plain))
                for number, plain in enumerate(plains):
                    stream = stack.enter_context(trusting().wrap_socket(plain, server_hostname="localhost"))
                    enter(stream, f"client-{number}")

        doors.during(run)
        assert doors.core.shard.counters()["connections_refused"] == 0


def hello() -> bytes:
    """What a client begins with."""
    out = ssl.MemoryBIO()
    tls = trusting().wrap_bio(ssl.MemoryBIO(), out, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return out.read()


def readable(plain: socket.socket) -> bool:
    plain.setblocking(False)
    try:
        return bool(plain.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False


@pytest.mark.parametrize("maximum", [1, 2, 3, 4])
def test_somebody_comes_in_however_few_strangers_there_may_be(native: bool, maximum: int) -> None:
    with opened(unauthenticated_connections_maximum=maximum) as doors:
        port = doors.listen(context(native))
        doors.during(lambda: talk(port, trusting()))


@pytest.mark.parametrize("is_known", [False, True])
def test_who_exchanges_keys_without_an_end_is_cut(doors: Doors, is_known: bool) -> None:
    """OpenSSL reads on as long as records come that carry nothing: two seconds were seen."""
    port = doors.listen(context(True))
    with OpensslClient() as client:
        doors.during(lambda: client.connect(port))
        if is_known:
            doors.during(lambda: client.send(CONNECT))
            assert doors.during(lambda: client.read(100))[:1] == b"\x20"
        client.update_keys(200)
        doors.until(lambda: doors.reactor.figures()["sockets"] == 0)


def test_who_exchanges_keys_now_and_then_is_served_and_who_goes_on_is_cut(doors: Doors) -> None:
    """No limit of messages or bytes counts them; each costs as much as a hundred publishes."""
    port = doors.listen(context(True))
    with OpensslClient() as client:
        doors.during(lambda: client.connect(port))
        client.send(CONNECT)
        assert doors.during(lambda: client.read(100))[:1] == b"\x20"
        for _ in range(2):
            time.sleep(1)  # behind those of the handshake, and of the turn before
            for _ in range(4):
                client.update_keys(4)
                client.send(PINGREQ)
                assert doors.during(lambda: client.read(100)) == PINGRESP
        with suppress(AssertionError):  # the broker is gone
            for _ in range(300):
                client.update_keys(1)
                doors.round()
        doors.until(lambda: doors.reactor.figures()["sockets"] == 0)


@pytest.mark.parametrize("version", [V2, V3])
def test_who_shows_more_certificates_than_a_chain_has_is_refused_before_they_are_read(
    doors: Doors, native: bool, version: ssl.TLSVersion
) -> None:
    """A stranger's hundred certificates hold the loop for 30 ms, also where none of them is to be trusted."""
    device, maximum = pki.client("device-1", pki.trusted()), CLIENT_CERTIFICATES_MAXIMUM_BYTES
    port = doors.listen(context(native, client_ca=pki.trusted().pem, client_certificate="optional"))
    for size, comes_in in ((maximum - 1500, True), (maximum + (500 if native else 2500), False)):
        more = (size - len(device.der)) // len(device.der)
        client = trusting(version, certificate=device.pem * (1 + more), key=device.key_pem)
        if comes_in:
            doors.during(lambda client=client: talk(port, client))  # type: ignore[misc]  # mypy knows no such lambda
        else:
            with pytest.raises((ssl.SSLError, ConnectionResetError, AssertionError, IndexError)):
                doors.during(lambda client=client: talk(port, client))  # type: ignore[misc]


@pytest.mark.parametrize("version", [V2, V3])
@pytest.mark.parametrize("asked", ["optional", "required"])
def test_no_ticket_stands_for_a_certificate(doors: Doors, native: bool, asked: str, version: ssl.TLSVersion) -> None:
    """It would let in whose certificate has ended since, and while the list is too old."""
    device = pki.client("device", pki.trusted())
    port = doors.listen(context(native, client_ca=pki.trusted().pem, client_certificate=asked))
    client = trusting(version, certificate=device.pem, key=device.key_pem)

    def come(session: ssl.SSLSession | None) -> tuple[ssl.SSLSession | None, bool | None]:
        with dial(port, client, session) as stream:
            enter(stream)
            return stream.session, stream.session_reused

    session, _ = doors.during(lambda: come(None))
    assert not doors.during(lambda: come(session))[1]


def idle_rounds(doors: Doors) -> int:
    """Serve until nothing is ready; gives in how many of these rounds nothing came, went or was shaken."""

    def work() -> tuple[object, ...]:
        figures = doors.reactor.figures()
        return tuple(figures[name] for name in ("receives", "sends", "accepts", "handshakes_ns"))

    idle = 0
    before = work()
    for number in range(1_000):
        if number and not doors.due and not select.select([doors.reactor.fileno()], [], [], 0)[0]:
            break
        doors.round()
        idle, before = idle + (work() == before), work()
    return idle


def test_who_waits_for_room_and_for_a_turn_spins_nothing(doors: Doors, native: bool) -> None:
    authorities = b"".join(pki.authority(f"CA {number:04} " + "x" * 40).pem for number in range(100)) * 7
    port = doors.listen(context(native, client_ca=authorities, client_certificate="optional"))
    plain_port = doors.listen()
    doors.listeners[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2048)
    with ExitStack() as stack:
        publisher = stack.enter_context(closing(socket.create_connection(("127.0.0.1", plain_port), timeout=20)))
        doors.during(lambda: enter(publisher))
        slow = stack.enter_context(closing(socket.socket()))
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        slow.connect(("127.0.0.1", port))
        slow.sendall(hello())
        doors.until(lambda: readable(slow))
        others = [
            stack.enter_context(closing(socket.create_connection(("127.0.0.1", port), timeout=20))) for _ in range(40)
        ]
        doors.until(lambda: doors.reactor.figures()["sockets"] == 42)
        for other in others:
            other.sendall(hello())
        turns = idle = 0
        while not all(readable(one) for one in others):
            publisher.sendall(encode(Publish("t", b"21.5"), 5))  # so that handshakes rest
            with suppress(BlockingIOError):
                slow.recv(1 << 16)  # so that there is room
            turns += 1
            idle += idle_rounds(doors)
            assert idle < 100 + 5 * turns  # a rest that spins is hundreds of rounds


# ---------------------------------------------------------------- contexts


def wrong_contexts() -> dict[str, dict[str, object]]:
    chain, key = pki.server().pem, pki.server().key_pem
    other_key = pki.issue("other").key_pem
    return {
        "no certificate": {"certificate_chain": b"", "private_key": key},
        "no PEM": {"certificate_chain": b"hello", "private_key": key},
        "no key": {"certificate_chain": chain, "private_key": b""},
        "another key": {"certificate_chain": chain, "private_key": other_key},
        "no CA": {"certificate_chain": chain, "private_key": key, "client_ca": b"x", "client_certificate": "required"},
        "no list": {"certificate_chain": chain, "private_key": key, "crl": b"x", "client_certificate": "required"},
        "no such word": {"certificate_chain": chain, "private_key": key, "client_certificate": "maybe"},
        "no such protocol": {"certificate_chain": chain, "private_key": key, "protocol": "h2"},
    }


@pytest.mark.parametrize("wrong", wrong_contexts())
def test_a_wrong_context_is_refused_with_words(native: bool, wrong: str) -> None:
    with pytest.raises(ValueError, match=r"\w+ \w+"):
        TlsContext(**wrong_contexts()[wrong], native=native)  # type: ignore[arg-type]


def test_a_listener_must_exist(doors: Doors) -> None:
    with pytest.raises(ValueError, match="no listener 0"):
        doors.reactor.set_tls(0, context(True))


# ---------------------------------------------------------------- together


def test_a_proxy_header_comes_before_tls_and_tells_who_the_client_is(doors: Doors, native: bool) -> None:
    port = doors.listen(context(native), proxy=True)
    doors.reactor.trust(["127.0.0.0/8"])
    before = b"PROXY TCP4 192.0.2.7 192.0.2.1 56324 8883\r\n"

    def run(split: bool) -> ssl.SSLSocket:
        plain = socket.create_connection(("127.0.0.1", port), timeout=20)
        trickle(plain, before) if split else plain.sendall(before)
        stream = trusting().wrap_socket(plain, server_hostname="localhost")
        enter(stream)
        return stream

    for split in (False, True):
        with doors.during(lambda split=split: run(split)):  # type: ignore[misc]
            assert [doors.reactor.peer(handle) for handle in handles(doors)] == ["192.0.2.7"]
        doors.until(lambda: not handles(doors))


def handles(doors: Doors) -> list[int]:
    shard = doors.core.shard
    return [handle for slot in range(64) for handle in (slot | 1 << 32, slot | 2 << 32) if shard.is_open(handle)]


@pytest.mark.parametrize("header", [b"", b"PROXY NONSENSE\r\n", b"\r\n\r\n\0\r\nQUIT\n\xff\xff\xff\xff"])
def test_without_a_proxy_header_nobody_comes_in(doors: Doors, header: bytes) -> None:
    port = doors.listen(proxy=True)
    doors.reactor.trust(["127.0.0.1/32"])

    def run() -> bytes:
        with closing(socket.create_connection(("127.0.0.1", port), timeout=20)) as stream:
            stream.sendall(header + CONNECT)
            try:
                return read(stream, 10)
            except ConnectionResetError:
                return b""

    assert doors.during(run) == b""
    assert events(doors, "proxy_refused") == [("malformed", "127.0.0.1")]
    assert doors.core.shard.counters()["connections_refused"] == 1


def test_a_proxy_that_is_not_trusted_is_refused(doors: Doors) -> None:
    port = doors.listen(proxy=True)
    doors.reactor.trust(["192.0.2.0/24", "2001:db8::/32", "127.0.0.2/32"])

    def run() -> bytes:
        with closing(socket.create_connection(("127.0.0.1", port), timeout=20)) as stream:
            try:
                stream.sendall(b"PROXY UNKNOWN\r\n" + CONNECT)
                return read(stream, 10)
            except (ConnectionResetError, BrokenPipeError):
                return b""

    assert doors.during(run) == b""
    assert events(doors, "proxy_refused") == [("untrusted", "127.0.0.1")]
    doors.reactor.trust(["127.0.0.0/30"])
    assert doors.during(run)[:1] == b"\x20"


def events(doors: Doors, name: str) -> list[tuple[object, object]]:
    """Why something was told, and of whom."""
    return [(told.get("why"), told["address"]) for event, told in doors.core.observer.events if event == name]


@pytest.mark.parametrize("address", ["192.0.2.7", "127.0.0.1"])
def test_the_log_says_that_a_key_comes_from_elsewhere(doors: Doors, address: str) -> None:
    """An application's key is taken in clear text from this machine alone."""
    port = doors.listen(proxy=True, is_open=False)
    doors.reactor.trust(["127.0.0.1"])
    with closing(socket.create_connection(("127.0.0.1", port), timeout=20)) as plain:
        plain.sendall(f"PROXY TCP4 {address} 127.0.0.1 5 6\r\n".encode() + CONNECT)
        doors.admit()
        doors.until(lambda: readable(plain))
    expected = [] if address == "127.0.0.1" else [("from_elsewhere", address)]
    assert events(doors, "connection_refused") == expected
