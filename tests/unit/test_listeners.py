"""Sockets before anybody accepts: Unix sockets with the rights that were asked for, and no file left behind."""

from __future__ import annotations

import os
import socket
import stat
from contextlib import ExitStack
from pathlib import Path

import pytest

from broker.config import BrokerConfig
from broker.errors import ConfigError
from broker.net.listeners import Doors, open_socket, open_unix_socket


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666, 0o777])
@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_a_socket_has_its_mode_whatever_the_umask(tmp_path: Path, mode: int, umask: int) -> None:
    before = os.umask(umask)
    try:
        listening, remove = open_unix_socket(tmp_path / "s", mode)
    finally:
        os.umask(before)
    with listening:
        assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == mode
        assert not listening.getblocking()
    remove()
    assert list(tmp_path.iterdir()) == []


def test_nobody_comes_in_while_the_rights_are_not_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    chmod = Path.chmod
    monkeypatch.setattr(
        Path, "chmod", lambda path, mode: (seen.append(stat.S_IMODE(path.lstat().st_mode)), chmod(path, mode))
    )
    before = os.umask(0)
    try:
        listening, remove = open_unix_socket(tmp_path / "s", 0o600)
    finally:
        os.umask(before)
    listening.close()
    remove()
    assert seen == [0o600]


def test_what_a_dead_process_has_left_is_replaced(tmp_path: Path) -> None:
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(tmp_path / "s"))
    dead.close()
    listening, remove = open_unix_socket(tmp_path / "s", 0o600)
    with listening, socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "s"))
    remove()
    remove()  # again is no error


def test_where_somebody_answers_nobody_is_replaced(tmp_path: Path) -> None:
    listening, remove = open_unix_socket(tmp_path / "s", 0o600)
    with listening:
        with pytest.raises(ConfigError, match=f"cannot listen on {tmp_path / 's'}: somebody answers there"):
            open_unix_socket(tmp_path / "s", 0o600)
        assert (tmp_path / "s").exists()
    remove()


def test_a_socket_whose_backlog_is_full_is_somebodys(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as busy, ExitStack() as clients:
        busy.bind(str(tmp_path / "s"))
        busy.listen(0)
        for _ in range(3):
            one = clients.enter_context(socket.socket(socket.AF_UNIX))
            one.setblocking(False)
            one.connect_ex(str(tmp_path / "s"))
        with pytest.raises(ConfigError, match="somebody answers there"):
            open_unix_socket(tmp_path / "s", 0o600)


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_is_no_socket_is_left_alone(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "s"
    if kind == "file":
        place.write_text("mine")
    elif kind == "folder":
        place.mkdir()
    else:
        place.symlink_to("elsewhere")
    with pytest.raises(ConfigError, match="it is there, and no socket"):
        open_unix_socket(place, 0o600)
    assert os.path.lexists(place)


def test_a_path_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file or directory"):
        open_unix_socket(tmp_path / "absent" / "s", 0o600)
    with pytest.raises(ConfigError, match="too long"):
        open_unix_socket(tmp_path / ("s" * 120), 0o600)
    assert list(tmp_path.iterdir()) == []


def test_another_ones_socket_is_not_removed(tmp_path: Path) -> None:
    listening, remove = open_unix_socket(tmp_path / "s", 0o600)
    listening.close()
    (tmp_path / "s").rename(tmp_path / "kept")
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "s"))
        remove()
        assert (tmp_path / "s").exists()


def test_doors_that_cannot_all_be_opened_leave_nothing(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        listeners = [{"unix_path": tmp_path / "s"}, {"name": "b", "host": "127.0.0.1", "port": port}]
        config = BrokerConfig.model_validate({"listeners": listeners, "http": {"port": 0}})
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port}: Address already in use"), ExitStack() as stack:
            Doors.opened(config, stack)
    assert list(tmp_path.iterdir()) == []


def test_a_taken_default_port_is_an_error_too() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, ExitStack() as stack:
        port = taken.getsockname()[1]
        listeners = [{"host": "127.0.0.1", "port": 0}]
        tables = {"http": {"port": 0}, "https": {"port": port}}
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{port}"):
            Doors.opened(BrokerConfig.model_validate({"listeners": listeners, **tables}), stack)


def test_who_is_accepted_is_answered_without_waiting_for_delayed_acknowledgements() -> None:
    with open_socket("127.0.0.1", 0) as listening:
        listening.setblocking(True)
        with socket.create_connection(listening.getsockname()), listening.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
