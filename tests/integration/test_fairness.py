"""Law 11 over sockets: a flood of one account does not keep another account's clients waiting for its end."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.integration import wire
from tests.integration.served import Served
from tests.integration.wire import PUBLISH, V311, Client

Serve = Callable[..., Served]
ROUND_TRIPS = 10

# In a process of its own, so that it is as fast as it can be: as many tiny messages as every socket takes, for a while.
FLOOD = """
import select, socket, sys, time
port, connect, packet = int(sys.argv[1]), bytes.fromhex(sys.argv[2]), bytes.fromhex(sys.argv[3])
packets = packet * (1_000_000 // len(packet))
sockets = {}
for number in range(16):
    one = socket.create_connection(("127.0.0.1", port))
    one.sendall(connect.replace(b"##", b"%02d" % number))
    one.recv(4)
    one.setblocking(False)
    sockets[one.fileno()] = [one, 0]
poll = select.poll()
for fileno in sockets:
    poll.register(fileno, select.POLLOUT)
print("flooding", flush=True)
end = time.monotonic() + 20
while time.monotonic() < end:
    for fileno, _ in poll.poll(1000):
        slot = sockets[fileno]
        try:
            slot[1] = (slot[1] + slot[0].send(memoryview(packets)[slot[1]:])) % len(packets)
        except BlockingIOError:
            pass
"""


@contextmanager
def killed(process: subprocess.Popen[str]) -> Iterator[None]:
    """End a process whatever happens."""
    try:
        yield
    finally:
        process.kill()


@pytest.mark.parametrize("topic_name", ["t", "/".join("a" * 100)], ids=["tiny", "deep"])
def test_a_flood_of_one_account_does_not_starve_another(serve: Serve, topic_name: str) -> None:
    broker = serve()
    connect = wire.connect(V311, "flood-##", "apikey", broker.api_key)
    packet = wire.publish(V311, topic_name, b"")
    device = broker.register()
    command = [sys.executable, "-c", FLOOD, str(broker.port()), connect.hex(), packet.hex()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as flood, killed(flood):
        assert flood.stdout is not None
        assert flood.stdout.readline() == "flooding\n"
        with Client(broker.port(), V311) as receiver, Client(broker.port(), V311) as sender:
            receiver.login(device.username, device.password, "receiver")
            receiver.send(wire.subscribe(V311, 1, [f"devices/{device.username}/commands"], 0))
            receiver.expect(wire.SUBACK)
            sender.login("apikey", broker.api_key, "sender")
            for _ in range(ROUND_TRIPS):
                sender.send(wire.publish(V311, f"devices/{device.username}/commands", b"x"))
                receiver.expect(PUBLISH)
        assert flood.poll() is None, "the flood ended first: nothing was shown"
