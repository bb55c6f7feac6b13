"""Listening sockets for MQTT and HTTP, and the limit of descriptors.

Here belongs what is opened before anybody accepts, and what is left of it at the stop. Not here: accepting, and
anything about one connection.
"""

from __future__ import annotations

import fcntl
import logging
import os
import resource
import socket
import stat
from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from broker.config import BrokerConfig
from broker.doors import Endpoint, ListenerConfig
from broker.errors import ConfigError

log = logging.getLogger(__name__)

BACKLOG = 4096


@dataclass(frozen=True, slots=True)
class Doors:
    """The sockets of one broker, listening: those of its listeners in their order, and those of HTTP."""

    listeners: tuple[socket.socket, ...]
    http: socket.socket
    https: socket.socket | None

    @classmethod
    def opened(cls, config: BrokerConfig, stack: ExitStack | AsyncExitStack) -> Doors:
        """Take all addresses; nothing is accepted yet, and ``stack`` gives them back. Raises ``ConfigError``."""
        listeners = tuple(_open_listener(listener, stack) for listener in config.listeners)
        http = stack.enter_context(open_socket(config.http.host, config.http.port))
        https = None
        if config.https.enabled:
            https = stack.enter_context(open_socket(config.https.host, config.https.port))
        return cls(listeners, http, https)

    def endpoints(self, config: BrokerConfig) -> list[Endpoint]:
        """Tell where all of them really listen."""
        pairs = zip(config.listeners, self.listeners, strict=True)
        told = [_endpoint(one.name, one.protocol, one.host, door, one.unix_path) for one, door in pairs]
        told.append(_endpoint("http", "http", config.http.host, self.http))
        if self.https is not None:
            told.append(_endpoint("https", "https", config.https.host, self.https))
        return told


def _open_listener(listener: ListenerConfig, stack: ExitStack | AsyncExitStack) -> socket.socket:
    if listener.unix_path is None:
        return stack.enter_context(open_socket(listener.host, listener.port))
    listening, remove = open_unix_socket(listener.unix_path, listener.unix_mode)
    stack.callback(remove)
    return stack.enter_context(listening)


def _endpoint(name: str, protocol: str, host: str, door: socket.socket, unix_path: Path | None = None) -> Endpoint:
    if unix_path is not None:
        return Endpoint(name, protocol, "", 0, str(unix_path))
    return Endpoint(name, protocol, host, door.getsockname()[1])


def open_socket(host: str, port: int) -> socket.socket:
    """Open a non-blocking listening TCP socket; port 0 picks a free one.

    Raises ``ConfigError`` naming the address when it cannot be listened on.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with ExitStack() as undo:
            listening = undo.enter_context(socket.socket(family, socket.SOCK_STREAM))
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Who is accepted inherits it. Without it an answer of two writes waits 40 ms for its caller's delayed
            # acknowledgement: asyncio sets it for sockets alone that were opened with their protocol's number.
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listening.bind(address)
            listening.listen(BACKLOG)
            listening.setblocking(False)
            undo.pop_all()
            return listening
    except OSError as error:
        raise ConfigError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error


def open_unix_socket(path: Path, mode: int) -> tuple[socket.socket, Callable[[], None]]:
    """Open a non-blocking listening Unix socket of these rights; gives it, and what removes its file.

    What a dead process has left is replaced. Raises ``ConfigError`` when somebody answers there, and for a path that
    is something else or cannot be made.
    """
    try:
        _remove_stale(path)
        with ExitStack() as undo:
            listening = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            os.fchmod(listening.fileno(), mode)  # bind gives its file these rights and no more, whatever the umask
            listening.bind(str(path))
            made = path.lstat()
            undo.callback(_remove, path, made)
            path.chmod(mode)
            listening.listen(BACKLOG)
            listening.setblocking(False)
            undo.pop_all()
            return listening, lambda: _remove(path, made)
    except OSError as error:
        raise ConfigError(f"cannot listen on {path}: {error.strerror or error}") from error


def _remove_stale(path: Path) -> None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise ConfigError(f"cannot listen on {path}: it is there, and no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.setblocking(False)
        try:
            asking.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except BlockingIOError:  # a full backlog is somebody's too
            pass
    raise ConfigError(f"cannot listen on {path}: somebody answers there")


def _remove(path: Path, made: os.stat_result) -> None:
    """Remove a socket's file, unless another one is there by now."""
    with suppress(OSError):
        if os.path.samestat(path.lstat(), made):
            path.unlink()


def raise_descriptor_limit(expected: int) -> int:
    """Raise the soft limit of open files to the hard one and return it; make room for as many as are expected.

    The kernel doubles a process's table of descriptors as it fills, and lets a process with threads wait some ten
    milliseconds for it each time, in the midst of an accept.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    any_open = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.close(fcntl.fcntl(any_open, fcntl.F_DUPFD_CLOEXEC, min(expected, hard - 1)))
    except OSError:
        log.warning("no room for %d descriptors at once", expected)
    finally:
        os.close(any_open)
    return hard
