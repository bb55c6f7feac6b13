"""Two accounts that are alike to the last device id, a suspended one, and everybody who may knock at a broker.

Here belong principals, their objects, and a look at what reached whom. Not here: who may do what
(``isolation_table``).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import NamedTuple, Self

from broker.accounts.accounts import AccountChange
from broker.accounts.device_description import DeviceChange, DeviceDescription
from broker.testing import BrokerUnderTest
from tests.integration import wire
from tests.integration.isolation_table import SCOPES
from tests.integration.wire import V5, Client

METER, PUMP, STRANGER = "meter", "pump", "stranger"
BOUND_PATTERNS = ("devices/{device_id}/telemetry/#", "jobs/+")
SLOWED_S = 2.0  # who was closed for what it did is read a second later


@dataclass(frozen=True)
class Principal:
    """Somebody with a user name and a password, or neither; ``kind`` is a column of the tables."""

    name: str
    kind: str
    username: str | None = None
    password: str | None = None
    scopes: tuple[str, ...] = ()
    account: str = "alpha"


class DeviceIn(NamedTuple):
    """A registered device and how it logs in."""

    device_id: str
    username: str
    password: str

    def as_principal(self, name: str, kind: str = "device", account: str = "alpha") -> Principal:
        return Principal(name, kind, self.username, self.password, (), account)


class World:
    """All that is there, on one running broker. ``principals`` by name; ``numbers`` of accounts by name."""

    def __init__(self, broker: BrokerUnderTest) -> None:
        self.broker = broker
        self.numbers: dict[str, int] = {}
        self.principals: dict[str, Principal] = {}
        self._counted = itertools.count()
        for account in ("alpha", "beta", "gone"):
            self.numbers[account] = self._account(account)
        self._let_in()
        self._keep_out()

    # ------------------------------------------------------------ who is there

    def _let_in(self) -> None:
        for account in ("alpha", "beta"):
            for device_id in (METER, PUMP):
                device = self.device(account, device_id)
                self._add(device.as_principal(f"{account} {device_id}", account=account))
            self._add(self.application(account, SCOPES))
        self.device("beta", STRANGER)
        for scope in SCOPES:
            self._add(self.application("alpha", (scope,)))
        self._add(self.application("alpha", SCOPES, BOUND_PATTERNS))

    def _keep_out(self) -> None:
        """Add those whom nobody may let in; each had a password or key that was good once, or is for another door."""
        alpha, admin = self.numbers["alpha"], self.broker.broker.admin
        call = self.broker.call
        rotated = self.device("alpha", "rotated")
        call(admin.rotate_password(alpha, "rotated", 0))
        inactive, deleted = self.device("alpha", "inactive"), self.device("alpha", "deleted")
        call(admin.change_device(alpha, "inactive", DeviceChange(active=False)))
        call(admin.delete_device(alpha, "deleted"))
        revoked, expired = self.key("alpha"), self.key("alpha", expires_in_s=5)
        call(admin.keys.revoke(revoked[0]))
        suspended = self.device("gone", METER), self.key("gone")
        call(admin.accounts.change(self.numbers["gone"], AccountChange(suspended=True)))
        self.broker.clock.advance(6)
        _, admin_key = call(admin.admin_keys.create("operator"))
        alphas, betas = self.principals["alpha meter"], self.principals["beta meter"]
        for name, device in (("rotated-away", rotated), ("inactive", inactive), ("deleted", deleted)):
            self._add(device.as_principal(name, "refused"))
        self._add(suspended[0].as_principal("suspended device", "refused", "gone"))
        for name, key in (("revoked", revoked[1]), ("expired", expired[1]), ("suspended", suspended[1][1])):
            self._add(Principal(f"{name} key", "refused", "apikey", key))
        self._add(Principal("admin key", "refused", "apikey", admin_key))
        self._add(Principal("anonymous", "refused"))
        self._add(Principal("without password", "refused", alphas.username))
        self._add(Principal("another's password", "refused", alphas.username, betas.password))
        self._add(Principal("by its chosen id", "refused", METER, alphas.password))

    def _add(self, principal: Principal) -> None:
        self.principals[principal.name] = principal

    # ------------------------------------------------------------ what can be made

    def fresh(self, word: str) -> str:
        return f"{word}-{next(self._counted):04}"

    def _account(self, name: str) -> int:
        return self.broker.call(self.broker.broker.admin.accounts.create(name)).account_id

    def account(self, name: str) -> str:
        """Make one more account."""
        self.numbers[name] = self._account(name)
        return name

    def device(self, account: str, device_id: str = "") -> DeviceIn:
        description = DeviceDescription(f"{account} device", "sensor", device_id=device_id)
        made = self.broker.broker.admin.create_device(self.numbers[account], description)
        view, login = self.broker.call(made)
        return DeviceIn(view.device_id, login.username, login.password)

    def key(
        self,
        account: str,
        scopes: Iterable[str] = SCOPES,
        patterns: Iterable[str] = (),
        *,
        name: str = "",
        expires_in_s: int = 0,
    ) -> tuple[int, str]:
        """Make a key, gives its number and its text; ``expires_in_s`` of the broker's time, which a test moves."""
        until = self.now_s() + expires_in_s if expires_in_s else None
        keys = self.broker.broker.admin.keys
        made = keys.create(self.numbers[account], name or self.fresh(f"{account}-key"), scopes, patterns, until)
        view, text = self.broker.call(made)
        return view.key_id, text

    def application(self, account: str, scopes: tuple[str, ...], patterns: Iterable[str] = ()) -> Principal:
        _, text = self.key(account, scopes, patterns)
        kind = "bound" if patterns else "full" if scopes == SCOPES else scopes[0]
        return Principal(f"{account} {kind}", kind, "apikey", text, scopes, account)

    def now_s(self) -> int:
        return self.broker.broker._clock.wall_s()  # the clock that tests move

    # ------------------------------------------------------------ over MQTT

    def dial(self, version: int = V5) -> Client:
        return Client(self.broker.direct_port, version)

    def enter(self, who: Principal, version: int = V5, client_id: str = "one") -> Client:
        """Connect somebody who may come in, with a clean session."""
        assert who.username is not None
        assert who.password is not None
        return self.dial(version).login(who.username, who.password, client_id)

    def publish(self, account: str, topic_name: str, payload: bytes, *, retain: bool = False, qos: int = 0) -> None:
        """Publish as the broker's own program may: anywhere in an account."""
        self.broker.publish(topic_name, payload, account=account, retain=retain, qos=qos)


class Watchers:
    """An application in each account that receives all there is of it; ``with``, then ``seen``."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._stack = ExitStack()
        self._clients: dict[str, Client] = {}

    def __enter__(self) -> Self:
        for account in ("alpha", "beta"):
            who = self._world.principals[f"{account} full"]
            client = self._clients[account] = self._world.enter(who, client_id="watcher")
            self._stack.callback(client.close)
            assert client.subscribe("#", "$SYS/#", options=0x20) == [0, 0]  # nothing retained
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def seen(self, account: str) -> list[tuple[str, bytes]]:
        """All that has come to an account since the last look, presence and the broker's figures apart."""
        mark = self._world.fresh("look").encode()
        self._world.publish(account, "look", mark)
        found = read_until(self._clients[account], mark)
        return [
            (topic, payload)
            for topic, payload in found
            if not topic.endswith("/presence") and not topic.startswith("$SYS/account/")
        ]


def read_until(client: Client, mark: bytes) -> list[tuple[str, bytes]]:
    """What comes before a message with this payload."""
    found: list[tuple[str, bytes]] = []
    while True:
        one = client.expect(wire.PUBLISH)
        if one.payload(client.version) == mark:
            return found
        found.append((one.topic_name, one.payload(client.version)))


def connect_with_will(version: int, who: Principal, topic_name: str, payload: bytes, first_flags: int = 0x06) -> bytes:
    """A CONNECT whose will stands between the client id and the user name."""
    assert who.username is not None
    assert who.password is not None
    body = wire.binary("MQTT") + bytes([version, 0xC0 | first_flags]) + b"\0\0" + wire.properties(version)
    body += wire.binary("with-will") + wire.properties(version) + wire.binary(topic_name) + wire.binary(payload)
    return wire.packet(0x10, body + wire.binary(who.username) + wire.binary(who.password))
