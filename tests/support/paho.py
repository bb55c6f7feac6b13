"""The end of a paho client, whole: it leaves the two sockets that wake its thread to the garbage collector.

In a cycle that one may finalize the sockets before their client, which is a warning then, in whatever test runs.
"""

from __future__ import annotations

from paho.mqtt.client import Client


def stop(client: Client) -> None:
    """End its thread; its connection stays as it is."""
    client.loop_stop()
    client._reset_sockets(sockpair_only=True)


def leave(client: Client) -> None:
    """Disconnect and end its thread."""
    client.disconnect()
    stop(client)
