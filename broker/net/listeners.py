"""Listening sockets for MQTT, and the limit of descriptors.

Here belongs what is opened before the reactor accepts. Not here: accepting, and anything about one connection.
"""

from __future__ import annotations

import fcntl
import logging
import os
import resource
import socket
from contextlib import ExitStack

from broker.errors import ConfigError

log = logging.getLogger(__name__)

BACKLOG = 4096


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
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listening.bind(address)
            listening.listen(BACKLOG)
            listening.setblocking(False)
            undo.pop_all()
            return listening
    except OSError as error:
        raise ConfigError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error


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
