"""What must hold of a whole broker after a cut: its core starts on what is left, and keeps every promise made by then.

Here belong the questions that clients ask a restarted core, and the judgement of the answers. Not here: what was
promised (``promises``), or how a core is started on a store (``again``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import lmdb

from broker.errors import BrokerError
from broker.wire import Packet, Puback, Pubcomp, Publish, Pubrec, Pubrel
from tests.powercut.again import Again, started
from tests.powercut.check import DATA
from tests.powercut.clients import EXPIRY_S
from tests.powercut.promises import MESSAGE_TOPICS, RETAINED_TOPICS, Promises, Receiver, Sent, name_in, payload_of
from tests.powercut.start import claimed, open_store
from tests.support.core import Client

PROBE = "probe"
ELSEWHERE = "elsewhere"


class BrokerCheck:
    """For a log of ``write_broker``."""

    def __init__(self, map_bytes: int) -> None:
        self._map_bytes = map_bytes
        self._promises = Promises()

    def hear(self, mark: str) -> bool:
        """Take one of the clients' marks."""
        return self._promises.hear(mark)

    def look(self, folder: Path, *, closely: bool) -> str:
        """Start on a data directory, and ask; ``closely``: stop, and ask a second start the same."""
        try:
            return asyncio.run(self._look(folder / DATA, closely))
        except (BrokerError, lmdb.Error, OSError) as error:
            return f"it does not start: {type(error).__name__}: {error}".replace(str(folder), "")
        except AssertionError as error:
            return f"its core does not answer: {error}"

    async def _look(self, folder: Path, closely: bool) -> str:
        for _ in range(1 + closely):  # nothing of the first is written back
            with claimed(folder) as (data_dir, secret):
                store = open_store(data_dir, self._map_bytes)
                try:
                    core = started(store, secret, self._promises.wall_ns)
                finally:
                    await store.close()
            wrong = "; ".join(Questions(core, self._promises).wrong())
            if wrong:
                return wrong
        return ""


def _named(payload: bytes) -> str:
    """The name of the message that this is, whole."""
    name = name_in(payload)
    if name.startswith(PROBE) or (name.rpartition(".")[2].isdigit() and payload == payload_of(name)):
        return name
    return f"rubbish {payload[:20]!r}"


class Questions:
    """Everything that clients can ask of one restarted core, once."""

    def __init__(self, core: Again, promises: Promises) -> None:
        self._core = core
        self._promises = promises
        self._found: dict[str, list[str]] = {}
        self._clients: dict[str, Client] = {}

    def wrong(self) -> Iterator[str]:
        """All that is not as it was promised."""
        for name, receiver in self._promises.receivers.items():
            yield from self._come_back(name, receiver)
        for name, receiver in self._promises.receivers.items():
            yield from self._compare(name, receiver)
        before = {name: list(found) for name, found in self._found.items()}
        yield from self._exchanges()
        for name in self._promises.receivers:
            self._drain(name)
            twice = [one for one in self._found[name][len(before[name]) :] if not one.startswith(PROBE)]
            if twice:
                yield f"{name} was sent {twice} by an exchange that goes on"
        yield from self._probes()
        yield from self._retained()

    # ------------------------------------------------------------ receivers

    def _come_back(self, name: str, receiver: Receiver) -> Iterator[str]:
        client = self._core.connecting(
            name, user_name=None, password=None, clean_start=False, properties={"session_expiry_interval": EXPIRY_S}
        )
        answer = self._core.answer_to_connect(client)
        if receiver.promised and not answer.session_present:
            yield f"the session of {name} is gone"
        self._clients[name] = client
        self._found[name] = []
        self._drain(name)

    def _drain(self, name: str) -> None:
        """Answer everything until nothing more comes."""
        client = self._clients[name]
        while packets := client.received():
            answers = [answer for packet in packets if (answer := self._answer(name, packet)) is not None]
            client.send(*answers)

    def _answer(self, name: str, packet: Packet) -> Packet | None:
        if isinstance(packet, Publish):
            self._found[name].append(_named(packet.payload))
            return (Puback, Pubrec)[packet.qos - 1](packet.packet_id) if packet.qos else None
        return Pubcomp(packet.packet_id) if isinstance(packet, Pubrel) else None

    def _compare(self, name: str, receiver: Receiver) -> Iterator[str]:
        found = self._found[name]
        if missing := receiver.due - set(found):
            yield f"{name} lacks {sorted(missing)}"
        if odd := set(found) - receiver.possible:
            yield f"{name} has {sorted(odd)}, which it cannot have"
        if settled := set(found) & receiver.settled:
            yield f"{name} has {sorted(settled)} again"
        if len(found) != len(set(found)):
            yield f"{name} has something twice: {found}"
        yield from self._disordered(name, found)

    def _disordered(self, name: str, found: list[str]) -> Iterator[str]:
        """Order is kept for each publisher, topic and quality: QoS 1 may overtake QoS 2, which waits for its record."""
        streams: dict[tuple[str, str, int], list[int]] = {}
        for one in found:
            if (sent := self._promises.messages.get(one)) is not None:
                key = sent.publisher, sent.topic, sent.qos
                streams.setdefault(key, []).append(int(one.split(".")[1]))
        for key, numbers in streams.items():
            if numbers != sorted(numbers):
                yield f"{name} has those of {key} in the order {numbers}"

    # ------------------------------------------------------------ publishers

    def _exchanges(self) -> Iterator[str]:
        """Publishers go on where they were: what has its PUBREC is not routed again, what has its PUBCOMP is over."""
        witness = self._core.connecting("witness", user_name=None, password=None)
        self._core.answer_to_connect(witness)
        witness.subscribe(ELSEWHERE)
        for publisher in sorted({one.publisher for one in self._promises.messages.values()}):
            client = self._core.connecting(
                publisher, user_name=None, password=None, clean_start=False, properties={"session_expiry_interval": 60}
            )
            self._core.answer_to_connect(client)
            self._clients[publisher] = client
            latest = {one.packet_id: one for one in self._promises.messages.values() if one.publisher == publisher}
            for one in latest.values():
                if one.qos == 2:
                    yield from self._go_on(client, one, witness)

    def _go_on(self, client: Client, one: Sent, witness: Client) -> Iterator[str]:
        if one.accepted and not one.releasing:
            client.send(Publish(one.topic, payload_of(one.name), 2, dup=True, packet_id=one.packet_id))
            client.pick(Pubrec)
            if (code := client.release(one.packet_id)) != 0:
                yield f"PUBREL of {one.name} was answered with {code:#x}"
        elif one.releasing and not one.complete:
            client.release(one.packet_id)
        elif one.complete:
            client.send(Publish(ELSEWHERE, one.name.encode(), 2, packet_id=one.packet_id))
            client.pick(Pubrec)
            client.release(one.packet_id)
            if witness.payloads() != [one.name.encode()]:
                yield f"the identifier of {one.name} is not free"

    def _probes(self) -> Iterator[str]:
        """Who subscribes to what shows when something is published."""
        source = self._core.connecting("source", user_name=None, password=None)
        self._core.answer_to_connect(source)
        for topic in MESSAGE_TOPICS:
            source.publish(topic, f"{PROBE}-{topic} ".encode(), 1)
        for name, receiver in self._promises.receivers.items():
            self._drain(name)
            for topic, wish in receiver.wishes.items():
                comes = self._found[name].count(f"{PROBE}-{topic}")
                if not wish.may_be(comes > 0) or comes > 1:
                    yield f"{name} is sent {comes} of {topic}, to which it {'subscribes' if wish.held else 'does not'}"

    def _retained(self) -> Iterator[str]:
        newcomer = self._core.connecting("newcomer", user_name=None, password=None)
        self._core.answer_to_connect(newcomer)
        newcomer.subscribe("k/#", qos=0)
        self._core.run()
        found = {one.topic_name: one.payload.decode() for one in newcomer.received() if isinstance(one, Publish)}
        for topic in RETAINED_TOPICS:
            if (value := found.get(topic, "")) not in self._promises.retained[topic]:
                yield f"{topic} retains {value!r}, and not one of {self._promises.retained[topic]}"
