"""A run: clients, network, clock, store and one life of the broker after the other, in steps drawn from a seed.

Here belong the steps and their order. Not here: what clients choose (``actions``), what must hold (``ledger``), how a
run comes to rest (``drain``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from tests.simulator import actions
from tests.simulator.chance import Chance
from tests.simulator.client import Client
from tests.simulator.disk import Disk, Platter
from tests.simulator.faults import NOT_SYNCED, FaultyDisk
from tests.simulator.ledger import Ledger
from tests.simulator.life import GRACE_S, Life
from tests.simulator.moment import SECOND_NS, Moment
from tests.simulator.network import Link
from tests.simulator.profile import Profile, choose

TRACE = 120
START_NS = 1_000_000_000_000
SPREAD_S = 60
JUMPS_S = (0.001, 0.02, 0.3, 3.0)
LONG_JUMPS_S = (20.0, 40.0, 130.0, 400.0, 5000.0)


class World:
    """One run. ``step(i)`` does the i-th step of its seed, whichever steps were done before."""

    def __init__(
        self, seed: int, *, level: str | None = None, faults: frozenset[str] = frozenset(), lying: str = ""
    ) -> None:
        self.seed = seed
        self.faults = faults
        self.lying = lying  # "prefix" or "subset": what a disk keeps that has said it kept everything
        self.chance = Chance(seed)
        self.profile: Profile = choose(self.chance, level)
        self.moment = Moment(START_NS)
        self.trace: deque[tuple[Any, ...]] = deque(maxlen=TRACE)
        self.platter = Platter()
        if NOT_SYNCED in faults or lying:
            self.platter.lie()
        levels = self.profile.levels
        self.ledger = Ledger(self.moment, levels, self.profile.limits["session_expiry_maximum_s"], GRACE_S, SPREAD_S)
        names = [(f"user-{number}", f"user-{number}-b") for number in range(len(levels))]
        self.clients = [Client(number, self.ledger, names[number]) for number in range(len(levels))]
        self.crowd = len(levels) - 1  # the last one is the prober, which acts in drains alone
        self.links: list[Link] = []
        self.drops: dict[int, int] = {}
        self.crashes = 0
        self.drains = 0
        self.disk: Disk
        self.life: Life
        self.ledger.wills.look = self.scan
        self.ledger.deliveries.roomy = self.profile.roomy
        self.start()
        self.table: list[Callable[[], None]] = self._table()

    def _table(self) -> list[Callable[[], None]]:
        weights: list[tuple[Callable[[], None], int]] = [
            (self.round, 90), (self.act, 60), (self.upwards, 30), (self.downwards, 30), (self.turn, 20),
            (self.store, 14), (self.zombie, 4), (self.tick, 4), (self.jump, 1),
        ]  # fmt: skip
        return [action for action, weight in weights for _ in range(weight)]

    def note(self, *what: Any) -> None:
        """Remember what happened, for whoever reads a failure."""
        self.trace.append((self.moment.t, *what))

    # ------------------------------------------------------------ steps

    def step(self, i: int) -> None:
        """Do one step."""
        chance = self.chance
        chance.at(self.seed, i)
        self.moment.t += 1
        if chance.below(self.profile.crashes) == 0:
            self.crash()
        elif chance.below(self.profile.drains) == 0:
            self.drain()
        else:
            self.table[chance.below(len(self.table))]()

    def act(self) -> None:
        """A client does something."""
        actions.act(self)

    def round(self) -> None:
        """What one client has sent arrives, the broker works, the store too, and the client reads."""
        chance = self.chance
        client = self.clients[chance.below(self.crowd)]
        link = client.link
        if link is None:
            self.act()
            return
        if self.profile.prompt or chance.below(3) == 0:
            client.acknowledge(100)
        if link.up:
            self.feed(link, len(link.up))
        self.work(chance.pick(self.profile.slices), write=chance.below(self.profile.writes) == 0)
        while chance.below(4) and self.disk.step():
            pass
        self.scan()
        if client.link is link:
            self.read(client, -1)

    def upwards(self) -> None:
        """Some bytes arrive at the broker."""
        links = [link for link in self.links if link.up]
        if links:
            link = self.chance.pick(links)
            size = len(link.up)
            if self.chance.below(self.profile.cuts) == 0:
                size = 1 + self.chance.below(size)
            self.feed(link, size)

    def downwards(self) -> None:
        """Some bytes arrive at a client."""
        client = self.clients[self.chance.below(self.crowd)]
        if client.link is not None:
            at_most = self.chance.below(60) if self.chance.below(self.profile.cuts) == 0 else -1
            self.read(client, at_most)

    def turn(self) -> None:
        """The broker works for a slice."""
        self.work(self.chance.pick(self.profile.slices), write=self.chance.below(self.profile.writes) == 0)
        self.scan()

    def store(self) -> None:
        """The store does its next thing, or its disk gets ill, or well."""
        if self.chance.below(self.profile.ills) == 0:
            self.disk.become(self.chance.pick(("ok", "full", "failed")))
            self.note("disk", self.disk.health.state)
        if self.disk.step():
            self.note("store")
        if self.chance.below(20) == 0:
            self.platter.sync()
        self.ledger.committed()

    def zombie(self) -> None:
        """A connection that its client has left: its last bytes arrive, or the broker notices."""
        left = [link for link in self.links if self.clients[link.client].link is not link]
        if not left:
            return
        link = self.chance.pick(left)
        if link.up and self.chance.below(2):
            self.feed(link, 1 + self.chance.below(len(link.up)))
        else:
            self.cut(link)

    def tick(self) -> None:
        """A little time passes."""
        self.advance(self.chance.pick(JUMPS_S))

    def jump(self) -> None:
        """Much time passes at once, or the wall clock is set."""
        if self.chance.below(4) == 0:
            jump_ns = round(self.chance.pick((-400.0, -3.0, 0.5, 200.0)) * SECOND_NS)
            self.moment.skew_ns += jump_ns
            self.moment.back_ns += max(0, -jump_ns)
            self.note("wall clock", self.moment.skew_ns)
            self.ledger.clock_set()
            self.life.clock()
        else:
            self.advance(self.chance.pick(LONG_JUMPS_S))

    def advance(self, seconds: float) -> None:
        """Move the clock."""
        self.moment.now_ns += round(seconds * SECOND_NS)
        self.note("clock", seconds)
        self.life.clock()

    # ------------------------------------------------------------ the network

    def open(self, client: Client, version: int) -> Link:
        """Open a connection."""
        handle = self.life.shard.open_connection(0, self.moment.now_ns)
        assert handle, "refused at the door"
        link = Link(client.number, handle, version, self.moment.life)
        self.links.append(link)
        return link

    def feed(self, link: Link, size: int) -> None:
        """Bytes arrive at the broker, unless it does not read."""
        shard = self.life.shard
        if not shard.is_open(link.handle):
            link.up.clear()
            self.scan()
            return
        if shard.is_stopped(link.handle):
            return
        if not link.accepted and self.clients[link.client].link is not link:
            self.haunt(link)
        data = bytes(link.up[:size])
        del link.up[:size]
        shard.feed(link.handle, data, self.moment.now_ns, self.chance.pick(self.profile.slices))
        link.fed += size
        self.note("feed", link, size)
        link.held |= shard.is_stopped(link.handle)
        if link.waiting:
            self.taken(link)

    def haunt(self, link: Link) -> None:
        """A CONNECT that its client has given up may be taken now."""
        self.ledger.haunted(link)
        self.clients[link.client].doubt(link)

    def work(self, deliveries: int, *, write: bool = True) -> bool:
        """The broker works; what waited in front of a connection that nothing holds up any more has been parsed."""
        shard = self.life.shard
        free = [link for link in self.links if link.held and not shard.is_stopped(link.handle)]
        more = self.life.turn(deliveries, write=write)
        if self.moment.ran_t < self.moment.t:
            return more  # the slice ended before everybody had his turn
        self.ledger.ran()
        for link in free:
            if not shard.is_stopped(link.handle) and link.handle not in self.life.answered:
                link.held = False
                if link.waiting:
                    self.taken(link)
        return more

    def taken(self, link: Link) -> None:
        """Find out which acknowledgements the core has surely taken."""
        shard = self.life.shard
        if link.held:
            return
        if not shard.is_open(link.handle):
            described = shard.describe(link.handle)
            if described is None or described["close_reason"]:
                return
        waiting = link.waiting
        while waiting and waiting[0][0] <= link.fed:
            delivery = waiting.pop(0)[1]
            if delivery is None:
                self.ledger.farewell(link)
            else:
                self.ledger.deliveries.taken(delivery)

    def read(self, client: Client, at_most: int) -> None:
        """Bytes arrive at a client; at the end it notices that the broker has closed."""
        link = client.link
        assert link is not None
        if not link.accepted:
            self.scan()
        if link.is_open:
            data = self.life.shard.take_output(link.handle, at_most)
        else:
            data, link.down = link.down, b""
        if data:
            self.note("read", client.number, len(data))
            client.read(data)
        elif not link.is_open or not self.life.shard.is_open(link.handle):
            client.lost()

    def cut(self, link: Link) -> None:
        """The connection breaks for the broker, after some of what was on its way."""
        if link.is_open and link.up and self.chance.below(2):
            self.feed(link, 1 + self.chance.below(len(link.up)))
        self.life.shard.close_connection(link.handle)
        self.scan()

    def scan(self) -> None:
        """Notice which connections the broker has closed."""
        shard = self.life.shard
        closed = [link for link in self.links if not shard.is_open(link.handle)]
        closed.sort(key=lambda link: not link.accepted)  # whoever was taken over had gone before who took over
        for link in closed:
            if link.waiting:
                self.taken(link)
            if link.accepted:  # else its client sees a connection that breaks before it is answered
                link.down = shard.take_output(link.handle)
            link.is_open = False
            self.note("closed", link)
            for other in list(self.ledger.sessions.attempts.get(link.client, ())):
                if other is not link and other is not self.clients[link.client].link:
                    self.haunt(other)  # it may be what has taken the session over
            self.ledger.closed(link)
            self.links.remove(link)
        shard.collect()

    # ------------------------------------------------------------ life and death

    def start(self) -> None:
        """A new process reads the store."""
        self.moment.life += 1
        self.disk = Disk(self.platter)
        store = FaultyDisk(self.disk, self.faults) if self.faults else self.disk
        self.life = Life(store, self.profile.limits, self.moment)
        for client in self.clients:
            for user_name in client.user_names:
                self.life.grant(client.number, user_name, self.profile.levels[client.number])
        self.life.restore()
        self.note("start", self.moment.life)

    def crash(self) -> None:
        """The process dies at once; what the network had taken may still arrive."""
        self.crashes += 1
        self.scan()
        for client in self.clients:
            if client.link is not None and self.chance.below(3) == 0:
                self.read(client, self.chance.below(200))
        self.note("crash", f"on disk until event {self.moment.committed_t}")
        self.moment.crashed_committed_t = self.moment.committed_t
        if self.moment.refusing:
            self.moment.refused_t = self.moment.t
        self._count_drops()
        self.ledger.crashed(self.links)
        for client in self.clients:
            client.lost()
        self.links.clear()
        self.disk.crash(self.chance)
        lost = self.platter.lose(self.chance, subset=self.lying == "subset")
        if lost and self.lying:
            self.note("the disk has lied", lost)
            self.moment.trusted = False
        if self.chance.below(3) == 0:
            self.advance(self.chance.pick((1.0, 20.0, 400.0)))
        self.start()
        self.ledger.restarted()

    def _count_drops(self) -> None:
        for client in self.clients:
            self.drops[client.number] = self.drops.get(client.number, 0) + self.life.drops(client.number)

    def dropped(self, client: int) -> int:
        """How many deliveries to a client were dropped for a counted reason since the last rest."""
        return self.drops.get(client, 0) + self.life.drops(client)

    def drain(self) -> None:
        """Everybody comes back, and everything comes to rest."""
        self.drains += 1
        from tests.simulator.drain import drain

        self.note("drain")
        drain(self)
