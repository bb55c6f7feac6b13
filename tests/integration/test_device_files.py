"""``iot-broker devices import`` and ``export``: files of devices, for a running broker and a stopped one's data."""

from __future__ import annotations

import csv
import io
import json
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from broker.cli import main
from broker.testing import BrokerUnderTest
from tests.integration.wire import Client

HEAD = "device_id,name,type,description,metadata,status,certificate_fingerprint\n"


def write(path: Path, *lines: str, head: str = HEAD) -> Path:
    path.write_text(head + "".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def logins(text: str) -> dict[str, dict[str, str]]:
    return {row["device_id"]: row for row in csv.DictReader(io.StringIO(text))}


def run_cli(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(one) for one in arguments], prog_name="iot-broker")


class Running:
    """A broker in a thread, and the command line beside it."""

    def __init__(self, broker: BrokerUnderTest, data: Path) -> None:
        self.broker = broker
        self.data = data
        self.accounts = 0

    def cli(self, *arguments: str | Path) -> Result:
        return run_cli(*arguments, "--data-dir", self.data)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    data = tmp_path_factory.mktemp("files") / "data"
    with BrokerUnderTest(data) as broker:
        yield Running(broker, data)


@pytest.fixture
def account(served: Running) -> str:
    """An account of its own for each test."""
    served.accounts += 1
    name = f"files-{served.accounts}"
    assert served.cli("accounts", "create", name).exit_code == 0
    return name


def test_a_file_goes_into_a_running_broker_and_comes_out_the_same(
    served: Running, account: str, tmp_path: Path
) -> None:
    metadata = json.dumps(
        {"place": 'a "quoted" place, and more', "ü": "\U0001f600"}, ensure_ascii=False, separators=(",", ":")
    )
    row = io.StringIO()
    csv.writer(row, lineterminator="\n").writerow(
        ["boiler-7", "Boiler, 7", "thermostat", "two\nlines", metadata, "inactive", "ab" * 32]
    )
    many = [f"device-{number},Device {number},sensor,,,active," for number in range(230)]
    source = write(tmp_path / "devices.csv", row.getvalue().rstrip("\n"), *many)
    done = served.cli("devices", "import", source, "--account", account)
    assert (done.exit_code, done.stderr.strip()) == (0, f"{source}: 231 created")
    made = logins(done.stdout)
    assert len(made) == 231
    assert len({one["password"] for one in made.values()}) == 231
    out = served.cli("devices", "export", "--account", account)
    assert out.stdout.count("\n") == 233  # one of them in a description
    assert out.stdout == source.read_text(encoding="utf-8")


def test_who_was_imported_comes_in_and_a_second_import_changes_nothing(
    served: Running, account: str, tmp_path: Path
) -> None:
    source = write(tmp_path / "devices.csv", "pump,The pump,actuator,,,,")
    first = served.cli("devices", "import", source, "--account", account)
    login = logins(first.stdout)["pump"]
    with Client(served.broker.direct_port) as client:
        client.login(login["username"], login["password"], "pump")
    again = served.cli("devices", "import", source, "--account", account)
    assert (again.exit_code, again.stdout, again.stderr.strip()) == (
        0,
        "device_id,username,password\n",
        f"{source}: 1 there",
    )
    with Client(served.broker.direct_port) as client:
        client.login(login["username"], login["password"], "pump")
    rotated = served.cli("devices", "import", source, "--account", account, "--rotate")
    assert rotated.stderr.strip() == f"{source}: 1 rotated"
    assert logins(rotated.stdout)["pump"]["password"] != login["password"]


def test_an_import_that_broke_off_goes_on_where_it_was(served: Running, account: str, tmp_path: Path) -> None:
    devices = [f"device-{number},Device {number},sensor,,,," for number in range(150)]
    file = tmp_path / "logins.csv"
    for lines in (devices[:70], devices):  # the first run saw less of it
        source = write(tmp_path / "devices.csv", *lines)
        done = served.cli("devices", "import", source, "--account", account, "--credentials", file)
        assert done.exit_code == 0, done.stderr
        assert done.stdout == ""
    assert done.stderr.strip() == f"{source}: 80 created, 70 there"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text().count("device_id,username,password") == 1
    assert set(logins(file.read_text())) == {f"device-{number}" for number in range(150)}


def test_lines_that_are_wrong_are_told_by_their_number_and_the_others_go_in(
    served: Running, account: str, tmp_path: Path
) -> None:
    source = write(
        tmp_path / "devices.csv",
        "good-1,First,sensor,,,,",
        "good-1,Once more,sensor,,,,",
        "x,Too short an id,sensor,,,,",
        "bulk,A reserved word,sensor,,,,",
        "good-2,ab,sensor,,,,",
        "good-3,Wrong metadata,sensor,,[1],,",
        'good-4,Twice,sensor,,"{""a"":1,""a"":2}",,',
        "good-5,Wrong status,sensor,,,error,",
        "good-6,Wrong fingerprint,sensor,,,,abc",
        "good-7,Too few,sensor",
        "good-8,Too many,sensor,,,,,,",
        ",No type,,,,,",
        "good-9,Last,gateway,,,,",
    )
    done = served.cli("devices", "import", source, "--account", account)
    assert done.exit_code == 1
    assert set(logins(done.stdout)) == {"good-1", "good-9"}
    told = done.stderr.splitlines()
    assert [line.partition(":")[0] for line in told[:-1]] == [f"line {number}" for number in range(3, 14)]
    assert told[-1] == f"{source}: 2 created, 11 refused"
    words = dict(line.split(": ", 1) for line in told[:-1])
    assert "already" in words["line 3"]
    assert words["line 6"].startswith("name:")
    assert words["line 7"].startswith("metadata:")
    assert words["line 9"] == "status: expected active or inactive"
    assert "fields" in words["line 11"]


def test_logins_that_devices_have_already_are_taken_and_not_written_again(
    served: Running, account: str, tmp_path: Path
) -> None:
    source = write(
        tmp_path / "devices.csv",
        "boiler,The boiler,boiler@works,correct horse,",
        "pump,The pump,pump@works,,",
        "valve,The valve,,battery staple,",
        "twin,The twin,pump@works,,",
        "weak,The weak,,1234567,",
        "odd,The odd,iot_dev_mine,,",
        head="device_id,name,username,password,type\n",
    )
    done = served.cli("devices", "import", source, "--account", account)
    assert done.stderr.splitlines()[-1] == f"{source}: 3 created, 3 refused"
    assert "1234567" not in done.stderr
    made = logins(done.stdout)
    assert (made["boiler"]["username"], made["boiler"]["password"]) == ("boiler@works", "")
    assert (made["pump"]["username"], len(made["pump"]["password"])) == ("pump@works", 43)
    passwords = {"boiler": "correct horse", "pump": made["pump"]["password"], "valve": "battery staple"}
    for device_id, password in passwords.items():
        for _ in range(2):
            with Client(served.broker.direct_port) as client:
                client.login(made[device_id]["username"], password, device_id)
    again = served.cli("devices", "import", source, "--account", account, "--rotate")
    assert again.stderr.splitlines()[-1] == f"{source}: 1 rotated, 5 refused"
    assert "keeps its own" in again.stderr


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"device_id,type\nabc,sensor\n", "line 1: expected the columns"),
        (b"name,name\nabc,abc\n", "line 1: expected the columns"),
        (b"name,colour\nabc,red\n", "line 1: expected the columns"),
        (b"", "line 1: expected the columns"),
        (b"name,secret\nabcd,secret\n", "expected the columns"),
        (b"device_id,name\nabc,\xff\n", "no UTF-8"),
        (b'device_id,name\nabc,"Device\n', "no CSV"),
    ],
)
def test_a_file_that_is_none_is_refused_in_one_line(
    served: Running, account: str, tmp_path: Path, content: bytes, expected: str
) -> None:
    source = tmp_path / "devices.csv"
    source.write_bytes(content)
    done = served.cli("devices", "import", source, "--account", account)
    assert done.exit_code == 1
    assert expected in done.stderr
    assert done.stderr.count("\n") == 1


def test_logins_are_written_to_nothing_that_others_may_read(served: Running, account: str, tmp_path: Path) -> None:
    source = write(tmp_path / "devices.csv", "pump,The pump,actuator,,,,")
    readable = tmp_path / "readable.csv"
    readable.touch(0o644)
    link = tmp_path / "link.csv"
    link.symlink_to(tmp_path / "elsewhere.csv")
    for file in (readable, link):
        done = served.cli("devices", "import", source, "--account", account, "--credentials", file)
        assert done.exit_code == 1
    assert served.cli("devices", "export", "--account", account).stdout == HEAD
    assert not (tmp_path / "elsewhere.csv").exists()


def test_an_unknown_account_is_told(served: Running, tmp_path: Path) -> None:
    source = write(tmp_path / "devices.csv", "pump,The pump,actuator,,,,")
    done = served.cli("devices", "import", source, "--account", "nobody")
    assert done.exit_code == 1
    assert "nobody" in done.stderr


def test_a_stopped_broker_s_data_takes_a_file_too(
    make_iot_broker: Callable[..., BrokerUnderTest], tmp_path: Path
) -> None:
    data = tmp_path / "data"
    assert run_cli("keys", "create", "first", "--data-dir", data).exit_code == 0
    source = write(tmp_path / "devices.csv", *(f"pump-{number},The pump,actuator,,,," for number in range(120)))
    done = run_cli("devices", "import", source, "--data-dir", data)
    assert done.stderr.strip() == f"{source}: 120 created"
    login = logins(done.stdout)["pump-7"]
    broker = make_iot_broker(data)
    with Client(broker.direct_port) as client:
        client.login(login["username"], login["password"], "pump-7")
    broker.stop()
    assert run_cli("devices", "export", "--data-dir", data).stdout.count("\n") == 121


def test_the_largest_device_fits_into_a_request(served: Running, account: str, tmp_path: Path) -> None:
    """In a request to the running broker everything but ASCII is escaped, and what is escaped is escaped again."""
    metadata = json.dumps({"x": "\U0001f600" * 2000 + '"' * 3500}, ensure_ascii=False)
    assert 15_000 < len(metadata.encode()) <= 16 * 1024
    row = io.StringIO()
    csv.writer(row, lineterminator="\n").writerow(["large", "\U0001f600" * 100, "sensor", "ü" * 500, metadata, "", ""])
    source = write(tmp_path / "devices.csv", row.getvalue().rstrip("\n"))
    done = served.cli("devices", "import", source, "--account", account)
    assert done.stderr.strip() == f"{source}: 1 created"
