"""``mosquitto_pub`` and ``mosquitto_sub`` against the broker, in both versions."""

from __future__ import annotations

import queue
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from tests.integration.served import Login, Served
from tests.integration.wire import PUBLISH, V5, Client

pytestmark = pytest.mark.needs("mosquitto_pub", "mosquitto_sub")
VERSIONS = pytest.mark.parametrize("version", ["311", "5"])
Run = Callable[..., subprocess.CompletedProcess[str]]


def access(served: Served, version: str, username: str, password: str, client_id: str) -> list[str]:
    where = ["-h", "127.0.0.1", "-p", str(served.port()), "-V", "mqttv" + version]
    return [*where, "-u", username, "-P", password, "-i", client_id]


@pytest.fixture
def publish(served: Served, program: Callable[[str], str]) -> Run:
    """Run ``mosquitto_pub`` to its end."""

    def run(login: list[str], *arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        command = [program("mosquitto_pub"), *login, *arguments]
        return subprocess.run(command, input=text, capture_output=True, text=True, timeout=30, check=False)

    return run


@contextmanager
def subscriber(program: Callable[[str], str], login: list[str], *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run ``mosquitto_sub`` until the block ends; it has subscribed when the block begins."""
    command = ["stdbuf", "-oL", program("mosquitto_sub"), "-d", *login, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if "Subscribed" in line:
                break
        else:
            raise AssertionError("mosquitto_sub did not subscribe")
        yield process
    finally:
        process.kill()
        process.communicate(timeout=10)


def received(process: subprocess.Popen[str], count: int) -> list[str]:
    """What ``mosquitto_sub -F '> ...'`` has printed, without its talk of packets."""
    found: list[str] = []
    assert process.stdout is not None
    while len(found) < count:
        line = process.stdout.readline()
        assert line, f"mosquitto_sub has ended after {found}"
        if line.startswith("> "):
            found.append(line[2:].rstrip("\n"))
    return found


@VERSIONS
@pytest.mark.parametrize("qos", ["0", "1"])
def test_telemetry_of_mosquitto_pub_reaches_mosquitto_sub_in_order(
    served: Served, device: Login, publish: Run, program: Callable[[str], str], version: str, qos: str
) -> None:
    watch = access(served, version, "apikey", served.api_key, "watch-" + device.device_id)
    with subscriber(program, watch, "-t", device.topic("telemetry"), "-q", qos, "-F", "> %t %p") as process:
        own = access(served, version, device.username, device.password, device.device_id)
        lines = "".join(f"{number}\n" for number in range(500))
        done = publish(own, "-t", device.topic("telemetry"), "-q", qos, "-l", text=lines)
        assert done.returncode == 0, done.stderr
        expected = [f"{device.topic('telemetry')} {number}" for number in range(500)]
        assert received(process, 500) == expected


@VERSIONS
def test_mosquitto_sub_of_a_device_receives_commands_of_rest_and_of_mosquitto_pub(
    served: Served, device: Login, publish: Run, program: Callable[[str], str], version: str
) -> None:
    own = access(served, version, device.username, device.password, device.device_id)
    with subscriber(program, own, "-t", device.topic("commands/#"), "-q", "1", "-F", "> %t %q %p") as process:
        answer = served.call("POST", f"/devices/{device.device_id}/commands", {"payload": {"on": True}})
        assert answer.json()["state"] in ("sent", "acknowledged")
        application = access(served, version, "apikey", served.api_key, "operator-" + device.device_id)
        done = publish(application, "-t", device.topic("commands/led"), "-q", "1", "-m", "blink")
        assert done.returncode == 0, done.stderr
        assert received(process, 2) == [
            f'{device.topic("commands")} 1 {{"on":true}}',
            f"{device.topic('commands/led')} 1 blink",
        ]


@VERSIONS
def test_a_wrong_password_is_told_in_the_words_of_the_version(
    served: Served, device: Login, publish: Run, version: str
) -> None:
    done = publish(access(served, version, device.username, "wrong", "x"), "-t", "a", "-m", "b")
    assert done.returncode != 0
    assert "not authori" in done.stderr.lower()


def test_forbidden_topics_are_told_to_mosquitto_pub_of_5(served: Served, device: Login, publish: Run) -> None:
    own = access(served, "5", device.username, device.password, device.device_id)
    done = publish(own, "-t", "devices/another/telemetry", "-q", "1", "-m", "x")
    assert "not authori" in (done.stdout + done.stderr).lower()


def test_a_file_of_a_megabyte_arrives_as_it_was(
    served: Served, device: Login, publish: Run, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("payload") / "payload"
    file.write_bytes(bytes(range(256)) * 4096)
    with Client(served.port(), V5) as application:
        application.login("apikey", served.api_key, "file")
        assert application.subscribe(device.topic("telemetry"), options=0) == [0]
        own = access(served, "311", device.username, device.password, device.device_id)
        assert publish(own, "-t", device.topic("telemetry"), "-q", "1", "-f", str(file)).returncode == 0
        assert application.expect(PUBLISH).payload(V5) == file.read_bytes()


def test_properties_of_5_reach_mosquitto_sub(
    served: Served, device: Login, publish: Run, program: Callable[[str], str]
) -> None:
    watch = access(served, "5", "apikey", served.api_key, "properties-" + device.device_id)
    form = "> %C|%D|%E|%F|%R|%P|%p"
    with subscriber(program, watch, "-t", device.topic("events"), "-q", "1", "-F", form) as process:
        own = access(served, "5", device.username, device.password, device.device_id)
        names = [("content-type", "text/plain"), ("correlation-data", "c-1"), ("message-expiry-interval", "3600")]
        names += [("payload-format-indicator", "1"), ("response-topic", "reply/here")]
        options = [word for name, value in names for word in ("-D", "publish", name, value)]
        options += ["-D", "publish", "user-property", "k", "v1", "-D", "publish", "user-property", "k", "v2"]
        assert publish(own, "-t", device.topic("events"), "-q", "1", "-m", "m", *options).returncode == 0
        (line,) = received(process, 1)
    content_type, correlation, expiry, indicator, response, users, payload = line.split("|")
    assert (content_type, correlation, indicator, response, payload) == ("text/plain", "c-1", "1", "reply/here", "m")
    assert 3590 <= int(expiry) <= 3600
    assert users.split() == ["k:v1", "k:v2"]


# ---------------------------------------------------------------- what outlives a connection


def keeping(version: str) -> list[str]:
    """Options of a session that is kept."""
    return ["-c", *(["-x", "3600"] if version == "5" else [])]


@VERSIONS
@pytest.mark.parametrize("qos", ["1", "2"])
def test_what_came_while_mosquitto_sub_was_away_is_printed_when_it_returns(
    served: Served, device: Login, publish: Run, program: Callable[[str], str], version: str, qos: str
) -> None:
    own = access(served, version, device.username, device.password, device.device_id)
    wanted = ["-t", device.topic("commands"), "-q", qos, "-F", "> %q %p", *keeping(version)]
    with subscriber(program, own, *wanted):
        pass  # killed without a word
    application = access(served, version, "apikey", served.api_key, "operator-" + device.device_id)
    lines = "".join(f"{number}\n" for number in range(100))
    assert publish(application, "-t", device.topic("commands"), "-q", qos, "-l", text=lines).returncode == 0
    command = [program("mosquitto_sub"), *own, *wanted, "-C", "100", "-W", "20"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout.splitlines() == [f"> {qos} {number}" for number in range(100)]


@VERSIONS
def test_the_will_of_a_killed_mosquitto_sub_arrives(
    served: Served, device: Login, program: Callable[[str], str], version: str
) -> None:
    watch = access(served, version, "apikey", served.api_key, "watch-" + device.device_id)
    with subscriber(program, watch, "-t", device.topic("status"), "-q", "1", "-F", "> %r %p") as process:
        own = access(served, version, device.username, device.password, device.device_id)
        will = ["--will-topic", device.topic("status"), "--will-payload", "lost", "--will-qos", "1"]
        with subscriber(program, own, "-t", device.topic("commands"), *will):
            pass
        assert received(process, 1) == ["0 lost"]


@VERSIONS
def test_a_retained_message_of_mosquitto_pub_greets_mosquitto_sub_until_it_is_cleared(
    served: Served, device: Login, publish: Run, program: Callable[[str], str], version: str
) -> None:
    own = access(served, version, device.username, device.password, device.device_id)
    watch = access(served, version, "apikey", served.api_key, "watch-" + device.device_id)
    status, options = device.topic("status"), ["-t", device.topic("status"), "-q", "1"]
    assert publish(own, *options, "-r", "-m", "on").returncode == 0
    with subscriber(program, watch, *options, "-F", "> %r %p") as process:
        assert received(process, 1) == ["1 on"]
    assert publish(own, *options, "-r", "-n").returncode == 0
    with subscriber(program, watch, *options, "-F", "> %r %p") as process:
        assert publish(own, "-t", status, "-q", "1", "-m", "next").returncode == 0
        assert received(process, 1) == ["0 next"]


@VERSIONS
def test_two_mosquitto_subs_share_what_mosquitto_pub_sends(
    served: Served, device: Login, publish: Run, program: Callable[[str], str], version: str
) -> None:
    shared = ["-t", "$share/pair/" + device.topic("events"), "-q", "1", "-F", "> %p"]
    logins = [access(served, version, "apikey", served.api_key, f"{n}-{device.device_id}") for n in range(2)]
    with subscriber(program, logins[0], *shared) as one, subscriber(program, logins[1], *shared) as other:
        own = access(served, version, device.username, device.password, device.device_id)
        lines = "".join(f"{number}\n" for number in range(100))
        assert publish(own, "-t", device.topic("events"), "-q", "1", "-l", text=lines).returncode == 0
        with ThreadPoolExecutor(2) as pool:  # who gets how many is the broker's affair
            found: queue.Queue[int] = queue.Queue()
            reading = [pool.submit(tell, process, found) for process in (one, other)]
            try:
                assert sorted(found.get(timeout=30) for _ in range(100)) == list(range(100))
            finally:
                for process in (one, other):
                    process.kill()
            assert all(reader.result(timeout=10) for reader in reading), "one of them got nothing"


def tell(process: subprocess.Popen[str], found: queue.Queue[int]) -> int:
    """Tell every number that ``mosquitto_sub -F '> ...'`` prints, until it ends; gives how many those were."""
    count = 0
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("> "):
            found.put(int(line[2:]))
            count += 1
    return count


@pytest.mark.needs("mosquitto_rr")
@VERSIONS
def test_a_request_of_mosquitto_rr_is_answered(
    served: Served, device: Login, program: Callable[[str], str], version: str
) -> None:
    question, answer = "questions/" + device.device_id, "answers/" + device.device_id
    with Client(served.port(), V5) as responder:
        responder.login("apikey", served.api_key, "responder-" + device.device_id)
        assert responder.subscribe(question) == [1]
        asking = access(served, version, "apikey", served.api_key, "asking-" + device.device_id)
        command = [
            program("mosquitto_rr"),
            *asking,
            "-t",
            question,
            "-e",
            answer,
            "-q",
            "1",
            "-m",
            "how many",
            "-W",
            "20",
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            arrived = responder.expect(PUBLISH)
            assert arrived.payload(V5) == b"how many"
            assert (answer.encode() in arrived.body) == (version == "5"), "5.0 says where the answer is wanted"
            responder.publish_qos1(answer, b"42")
            assert process.communicate(timeout=20)[0].strip() == "42"
            assert process.returncode == 0
