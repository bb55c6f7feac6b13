"""Everybody who plays in a campaign: publishers, receivers, a shared group, wills, sessions, devices.

Here belongs who there is and what each does while the broker serves. Not here: when the broker dies (``campaign``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from tests.crash.actor import Actor, World, cancel
from tests.crash.devices import Devices
from tests.crash.ledger import STUCK, UNFINISHED, Stream
from tests.crash.paho_pair import PahoPublisher, PahoReceiver
from tests.crash.publisher import Publisher
from tests.crash.receiver import Receiver
from tests.crash.retained import RetainedReader, RetainedWriter, check_retained
from tests.crash.sessions import Guests
from tests.crash.wills import Mortal, WillReceiver
from tests.integration.wire import V5, V311

LOOK_S = 0.005
LONGEST_S = 40.0
MINUTE_PAUSE_S = 0.03
RETAINED_TOPICS = 24
GUESTS = 4
MORTALS = 4
MEMBERS = 3
RECOVERY_TRIES = 8
PAHO_MESSAGES = 100
BIG_BYTES = (6_000, 12_000)


class Cast:
    """All clients of one data directory."""

    def __init__(self, world: World, devices: Devices | None) -> None:
        self.world = world
        self.devices = devices
        self._lives: list[asyncio.Task[None]] = []
        self._scenes: list[asyncio.Task[None]] = []
        topics = [Stream(f"t/{publisher}/{number}", 1 + number % 2) for publisher in "abc" for number in range(4)]
        self.publishers = [
            Publisher(world, "publisher-a", V5, topics[0:4], window=20),
            Publisher(world, "publisher-b", V311, topics[4:8], window=20),
            Publisher(world, "publisher-c", V5, topics[8:12], window=60),
        ]
        self.receivers = [
            self._receiver("all", V5, 2, "t/#"),
            self._receiver("even", V311, 1, "t/+/0", "t/+/2"),
            self._receiver("one", V311, 2, "t/a/#", "devices/+/telemetry"),
            self._receiver("several", V5, 1, "t/b/+", "t/c/1"),
            self._receiver("changing", V5, 1, "t/a/1"),
        ]
        group = world.ledger.inbox("group", ordered=False)
        self.members = [
            Receiver(world, f"member-{n}", 4 + n % 2, 2, ["t/b/#"], group, share="g") for n in range(MEMBERS)
        ]
        self.wills = WillReceiver(world, "wills", V5)
        self.mortals = [Mortal(world, f"mortal-{n}", 4 + n % 2, self.wills, n // 2) for n in range(MORTALS)]
        self.writer = RetainedWriter(world, "writer", V5, "r", RETAINED_TOPICS)
        self.reader = RetainedReader(world, "reader", "r")
        self.guests = Guests(world, GUESTS)
        self.paho: list[PahoPublisher] = []

    def add_paho(self) -> None:
        """Let paho play too: two threads more."""
        self.paho = [PahoPublisher(self.world, "paho-publisher", [Stream("p/1", 1), Stream("p/2", 1)])]
        for actor in [*self.paho, PahoReceiver(self.world, "paho-receiver", ["p/#", "t/b/+"])]:
            self._live(actor)

    def _live(self, actor: Actor) -> None:
        actor.wanted.set()
        self._lives.append(asyncio.create_task(actor.live(), name=actor.name))

    def _receiver(self, name: str, version: int, qos: int, *filters: str) -> Receiver:
        return Receiver(self.world, name, version, qos, list(filters), self.world.ledger.inbox(name))

    # ------------------------------------------------------------ coming to life

    def begin(self) -> None:
        """Let everybody connect as soon as somebody answers."""
        for actor in [*self.publishers, *self.receivers, *self.members, self.wills, *self.mortals, self.writer]:
            self._live(actor)

    async def add_device_publisher(self) -> None:
        """Register a device that publishes its telemetry."""
        assert self.devices is not None
        device_id, login = await self.devices.register("Publisher")
        self.devices.lasting.add(device_id)
        stream = Stream(f"devices/{device_id}/telemetry", 1)
        publisher = Publisher(self.world, device_id, V311, [stream], 10, login)
        self.publishers.append(publisher)
        self._live(publisher)

    async def end(self) -> None:
        """Let everybody go."""
        self.world.up.clear()
        await self.stop_scenes()
        await cancel(self._lives)
        for actor in self.world.actors:
            actor.drop()
        if self.devices is not None:
            self.devices.api.close()

    # ------------------------------------------------------------ traffic

    def play(self, messages: int) -> None:
        """Begin one round's traffic; it goes on until ``stop_scenes``."""
        for receiver in self.receivers:
            self._arrange(receiver)
        for publisher in self.publishers:
            publisher.begin(messages)
        self.writer.begin(messages // 8 + 4)
        for one in self.paho:
            one.begin(min(messages, PAHO_MESSAGES))
        self._scene(self._changes())
        self._scene(self._fences())
        self._scene(self.guests.come_and_go(MINUTE_PAUSE_S))
        if self.devices is not None:
            self._scene(self.devices.come_and_go(MINUTE_PAUSE_S))
        for mortal in self.mortals:
            if not mortal.wanted.is_set() and self.world.rng.random() < 0.5:
                mortal.wanted.set()
            elif self.world.rng.random() < 0.25:
                self._scene(self._die(mortal))

    async def stop_scenes(self) -> None:
        """Begin nothing new; what was begun stays as it is."""
        for publisher in [*self.publishers, self.writer]:
            publisher.stop()
        scenes, self._scenes = self._scenes, []
        await cancel(scenes)

    def _scene(self, what: Coroutine[Any, Any, None]) -> None:
        self._scenes.append(asyncio.create_task(what))

    def _arrange(self, receiver: Receiver) -> None:
        """Let a receiver be there, away, silent, cut off, or replaced by a second connection."""
        rng = self.world.rng
        chance = rng.random()
        if chance < 0.25:
            receiver.wanted.clear()
            rng.choice((receiver.depart, receiver.drop))()
        elif chance < 0.4:
            receiver.mute(rng.randint(0, 150))
        elif chance < 0.6:
            self._scene(self._flap(receiver))

    async def _flap(self, receiver: Receiver) -> None:
        rng = self.world.rng
        while True:
            await asyncio.sleep(rng.uniform(0.02, 0.2))
            if rng.random() < 0.3 and receiver.is_in:
                await receiver.takeover()
            else:
                receiver.drop()

    async def _die(self, mortal: Mortal) -> None:
        await asyncio.sleep(self.world.rng.uniform(0.0, 0.3))
        mortal.wanted.clear()
        mortal.drop()

    async def _changes(self) -> None:
        """Subscribe and unsubscribe."""
        rng = self.world.rng
        changing = self.receivers[-1]
        while True:
            topic_filter = rng.choice(("t/b/0", "t/b/1", "t/c/+", "t/+/3"))
            rng.choice((changing.add, changing.remove))(topic_filter)
            await asyncio.sleep(rng.uniform(0, MINUTE_PAUSE_S * 2))

    async def _fences(self) -> None:
        rng = self.world.rng
        while True:
            rng.choice([*self.receivers, *self.members]).fence()
            await asyncio.sleep(rng.uniform(0, MINUTE_PAUSE_S))

    async def fill_up(self, enough: int) -> None:
        """Publish large messages, with nobody there, until the broker refuses them or that many are gone."""
        for receiver in self.receivers:
            receiver.wanted.clear()
            receiver.depart()
        small = self.publishers[0].size_bytes
        refused = sum(one.refusals for one in self.publishers)
        for publisher in self.publishers:
            publisher.size_bytes = BIG_BYTES
            publisher.begin(enough // len(self.publishers))
        while any(one.left for one in self.publishers) and sum(one.refusals for one in self.publishers) < refused + 10:
            packets = self.world.packets
            await asyncio.sleep(0.2)
            if packets == self.world.packets:
                break  # 3.1.1 clients are not refused but kept waiting
        for publisher in self.publishers:
            publisher.size_bytes = small

    # ------------------------------------------------------------ afterwards

    def end_silence(self) -> None:
        """Let those who answer nothing come back as who they were."""
        for receiver in self.receivers:
            if receiver.mute_after >= 0:
                receiver.mute(-1)
                receiver.drop()

    def call_back(self, *, everybody: bool) -> None:
        """Decide who comes back after a crash: nearly all receivers, some of those with wills.

        A store that is full has room again when everybody has taken what was kept for them.
        """
        rng = self.world.rng
        for receiver in self.receivers:
            receiver.mute(-1)
            if rng.random() < 0.85 or everybody:
                receiver.wanted.set()
        for mortal in self.mortals:
            if rng.random() < 0.3:
                mortal.wanted.clear()

    async def settle(self, quiet_s: float) -> None:
        """Wait until nothing is under way; what does not come while all is quiet for so long will not come at all."""
        loop = asyncio.get_running_loop()
        packets, since = self.world.packets, loop.time()
        longest = since + LONGEST_S
        while self._waiting():
            await asyncio.sleep(LOOK_S)
            if packets != self.world.packets and loop.time() < longest:
                packets, since = self.world.packets, loop.time()
            elif loop.time() - since > quiet_s or loop.time() > longest:
                self._give_up()
                return

    def _waiting(self) -> list[tuple[str, str]]:
        found = []
        for actor in self.world.actors:
            if actor.wanted.is_set() and (what := actor.waits_for()):
                found.append((actor.name, what))
                break
        return found

    def _give_up(self) -> None:
        ledger = self.world.ledger
        for actor in self.world.actors:
            what = actor.waits_for() if actor.wanted.is_set() else ""
            if not what:
                continue
            if isinstance(actor, Receiver | PahoReceiver) and actor.is_in:
                actor.inbox.write_off("it did not come")
                what = actor.waits_for()
            if what:
                ledger.find(UNFINISHED if actor.is_in else STUCK, f"{actor.name} waits for {what}")

    async def check(self) -> None:
        """Look at all that is not a message. Raises ``Cut`` when the broker dies."""
        await check_retained(self.writer, self.reader)
        await self.guests.check()
        if self.devices is not None:
            await self.devices.check()
        self.wills.tell_missing(asyncio.get_running_loop().time())

    async def see_it_work(self, messages: int, quiet_s: float) -> None:
        """With everybody there, something new must be taken and delivered, whatever was full before."""
        for receiver in self.receivers:
            receiver.wanted.set()
        await self.settle(quiet_s)
        for _ in range(RECOVERY_TRIES):
            refused = sum(one.refusals for one in self.publishers)
            for publisher in self.publishers:
                publisher.begin(messages)
            await self.settle(quiet_s)
            if sum(one.refusals for one in self.publishers) == refused:
                return
            await asyncio.sleep(1.0)
        self.world.ledger.find(STUCK, "messages are refused though everything was delivered")

    async def await_wills(self, longest_s: float) -> None:
        """Let the delays of wills pass, until all have come or the time is over."""
        loop = asyncio.get_running_loop()
        until = loop.time() + longest_s
        while self.wills.missing(loop.time()) and loop.time() < until:  # noqa: ASYNC110 - a few looks in a campaign
            await asyncio.sleep(LOOK_S)
        self.wills.tell_missing(loop.time())
