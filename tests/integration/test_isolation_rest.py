"""Every key at every route: what is not allowed is refused alike, whether its object is another account's or nobody's.

Here belongs the crossing over REST. Not here: over MQTT (``test_isolation``), and what is expected
(``isolation_table``). Requests go to the application inside the broker's loop: no socket, and no wait for wrong keys.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from api.app import application
from api.table import ROUTES
from broker.admin import AuthorityWish, ClaimWish, DeviceMessage, WebhookWish, Which
from broker.storage import tables
from broker.testing import BrokerUnderTest
from tests.integration.isolation_table import ADMIN, PUBLIC, REST, SCOPES, RestRow, rest_status
from tests.integration.isolation_world import Watchers, World
from tests.support import pki

CODES = {400: "INVALID_PARAMETER", 401: "AUTH_FAILED", 403: "INSUFFICIENT_PERMISSIONS", 404: "NOT_FOUND"}
OF_THE_REQUEST = {"x-request-id", "x-ratelimit-remaining", "x-ratelimit-reset"}
WATCHED = (
    *(tables.ACCOUNTS, tables.KEYS, tables.ADMIN_KEYS, tables.DEVICES, tables.COUNTERS, tables.ANSWERS, tables.AUDIT),
    *(
        tables.TRACKED,
        tables.WEBHOOKS,
        tables.CLAIMS,
        tables.ENROLLED,
        tables.AUTHORITIES,
        tables.SESSIONS,
        tables.RETAINED,
    ),
)
EVERYTHING = "{device_id} {message_id} {webhook_id} {claim_id} {authority_id} {key_name}"
ELSEWHERE = ("192.0.2.1", 40000)

Ids = Mapping[str, str]


@dataclass
class Caller:
    """A key, or something in its place; ``knocks_with`` is a column of the table, ``account`` whose objects are own."""

    name: str
    knocks_with: str
    headers: dict[str, str]
    scopes: tuple[str, ...] = ()
    account: str = "alpha"


@dataclass
class Rest:
    """The routes of one running broker, who asks, and what each account has there."""

    world: World
    callers: dict[str, Caller] = field(default_factory=dict)
    connections: list[tuple[str, str]] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        world, admin = self.world, self.world.broker.broker.admin
        for name, who in world.principals.items():
            if who.username == "apikey" and name != "admin key":
                knocks = "account" if who.kind in ("full", *SCOPES) else who.kind
                knocks = {"suspended key": "suspended"}.get(name, "nothing" if knocks == "refused" else knocks)
                self._add(name, knocks, who.password, who.scopes, who.account)
        device = world.principals["alpha meter"]
        self._add("a device's password", "nothing", device.password)
        self._add("no key", "nothing", "")
        _, key = self.call(admin.admin_keys.create("asking"))
        view, revoked = self.call(admin.admin_keys.create("revoked"))
        self.call(admin.admin_keys.revoke(view.key_id))
        self._add("admin key", "admin", key)
        self._add("revoked admin key", "nothing", revoked)
        self._add("two keys", "nothing", world.principals["alpha full"].password)
        self.callers["two keys"].headers["X-API-Key"] = world.principals["beta full"].password or ""

    def call(self, work: Any) -> Any:
        return self.world.broker.call(work)

    def _add(
        self, name: str, knocks: str, key: str | None, scopes: tuple[str, ...] = (), account: str = "alpha"
    ) -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.callers[name] = Caller(name, knocks, headers, scopes, account)

    # ------------------------------------------------------------ what there is

    def objects(self, account: str, wanted: str = EVERYTHING) -> Ids:
        """Make what a text names by ``{device_id}`` and the like in an account, or one of everything; gives the ids."""
        admin, number = self.world.broker.broker.admin, self.world.numbers[account]
        made = {"account_id": str(number)}
        if "{device_id}" in wanted:
            made["device_id"] = self.world.device(account).device_id
        if "{message_id}" in wanted:
            sent = self.call(admin.commands.send(number, made["device_id"], DeviceMessage("commands", b"1")))
            made["message_id"] = sent.message_id
        if "{webhook_id}" in wanted:
            for old in self.call(admin.webhooks.list(number))[:-2]:
                self.call(admin.webhooks.delete(number, old.webhook_id))
            wish = WebhookWish(f"https://{account}.example/x", ("presence",), "", False)
            made["webhook_id"] = self.call(admin.webhooks.create(number, wish)).webhook_id
        if "{authority_id}" in wanted:
            for one in self.call(admin.authorities.list(number)):  # unproven ones are forgotten
                self.call(admin.authorities.revoke(number, one.authority_id))
            wish = AuthorityWish(f"{account}-ca", pki.authority(f"{account} CA").pem.decode())
            made["authority_id"] = self.call(admin.authorities.create(number, wish)).authority_id
        if "{claim_id}" in wanted:
            for old in self.call(admin.claims.list(number))[2:]:
                self.call(admin.claims.revoke(number, old.claim_id))
            wish = ClaimWish(f"{account}-claim")
            made["claim_id"] = self.call(admin.claims.create(number, wish))[0].claim_id
        if "{key_name}" in wanted or "{key_id}" in wanted:
            made["key_name"] = self.world.fresh(f"{account}-key")
            made["key_id"] = str(self.world.key(account, name=made["key_name"])[0])
        return made

    def of_the_installation(self, row: RestRow) -> Ids:
        """What an admin key finds: an account for it, a key of the kind, a connection with its session."""
        made = dict(self.objects("alpha", wanted(row)))
        made["account_id"] = str(self.world.numbers[self.world.account(self.world.fresh("made"))])
        if row.path.endswith("/admin-keys/{key_id}"):
            view, _ = self.call(self.world.broker.broker.admin.admin_keys.create("another"))
            made["key_id"] = str(view.key_id)
        if "{connection_id}" in row.path or "{session_id}" in row.path:
            made["connection_id"], made["session_id"] = self.connections.pop()
        return made

    @staticmethod
    def missing(ids: Ids) -> Ids:
        """Ids as long as these, which nothing has."""
        return {
            name: "9" * len(one) if one.isdigit() and name != "connection_id" else one[:-4] + "zzzz"
            for name, one in ids.items()
        }

    # ------------------------------------------------------------ asking

    def ask(self, caller: Caller, row: RestRow, ids: Ids, **more: Any) -> httpx.Response:
        """Send the request of a row about the objects of these ids."""
        return self.asked(caller, row.method, filled(row.path, ids), row.query, row.body, ids, **more)

    def asked(
        self,
        caller: Caller,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Any,
        ids: Ids,
        client: tuple[str, int] = ("127.0.0.1", 40000),
        **headers: str,
    ) -> httpx.Response:
        async def send() -> httpx.Response:
            app = application(self.world.broker.broker.admin, sleep=lambda _: asyncio.sleep(0))
            transport = httpx.ASGITransport(app, client=client)
            async with httpx.AsyncClient(transport=transport, base_url="http://broker") as http:
                return await http.request(
                    method,
                    path,
                    params={name: filled(value, ids) for name, value in query.items()},
                    json=None if body is None else {name: self._value(value, ids) for name, value in body.items()},
                    headers={**caller.headers, **headers},
                )

        answer: httpx.Response = self.call(send())
        return answer

    def _value(self, value: Any, ids: Ids) -> Any:
        if value == "made":  # a name of its own
            return f"made-{next(self.numbers)}"
        whole = filled(value, ids) if isinstance(value, str) else value
        return int(whole) if value == "{account_id}" else whole

    def stored(self) -> dict[str, object]:
        """What the disk holds, without what goes on by itself."""

        async def load() -> dict[str, object]:
            (store,) = self.world.broker._stores
            return {table: list(store.load(table)) for table in WATCHED}

        found: dict[str, object] = self.call(load())
        return found

    def shown_to(self, account: str) -> list[bytes]:
        """All that an account's own key is shown of it."""
        caller = self.callers[f"{account} full"]
        rows = [row for row in REST if row.method == "GET" and row.opens in SCOPES and not row.names_something]
        return [self.ask(caller, row, {}).content for row in rows if not row.path.endswith("/stats")]


def wanted(row: RestRow) -> str:
    """The text of a row, with the objects that it names."""
    return f"{row.path} {row.query} {row.body}"


def filled(text: str, ids: Ids) -> str:
    for name, one in ids.items():
        text = text.replace("{" + name + "}", one)
    return text


def plain(answer: httpx.Response, ids: Ids) -> tuple[int, dict[str, str], str]:
    """An answer without what only tells which request it is for."""
    headers = {name: value for name, value in answer.headers.items() if name not in OF_THE_REQUEST}
    text = answer.text
    for name, one in sorted(ids.items(), key=lambda item: -len(item[1])):
        text = text.replace(one, name)
    return answer.status_code, headers, text


@pytest.fixture(scope="module")
def rest() -> Iterator[Rest]:
    with BrokerUnderTest() as broker, ExitStack() as stack:
        world = World(broker)
        made = Rest(world)
        who = world.principals["alpha meter"]
        for number in range(5):
            stack.enter_context(world.enter(who, client_id=f"session {number}"))
        admin = broker.broker.admin
        found = made.call(admin.connections.list_connections(Which("alpha"), 10)).items
        made.connections = [(one.id, one.session_id) for one in found]
        yield made


CALLERS = [
    *("alpha full", "beta full", *(f"alpha {scope}" for scope in SCOPES), "alpha bound"),
    *("suspended key", "revoked key", "expired key", "admin key", "revoked admin key"),
    *("a device's password", "no key", "two keys"),
]


def test_the_table_has_every_route_and_every_caller(rest: Rest) -> None:
    assert {(row.method, row.path) for row in REST} == {(route.method, route.path) for route in ROUTES}
    assert set(CALLERS) == set(rest.callers)
    assert {row.opens for row in REST} == {PUBLIC, ADMIN, "devices:read", "devices:write", "publish", "usage:read"}


@pytest.mark.parametrize("name", CALLERS)
def test_what_is_refused_changes_nothing_and_tells_nothing(rest: Rest, name: str) -> None:
    caller = rest.callers[name]
    other = "beta" if caller.account != "beta" else "alpha"
    ids = {"own": rest.objects("alpha" if caller.account == "gone" else caller.account), "other": rest.objects(other)}
    for one in ids.values():  # of the installation
        assert isinstance(one, dict)
        one["connection_id"], one["session_id"] = rest.connections[0]
    ids["missing"] = rest.missing(ids["other"])
    mixed = {**ids["own"], "message_id": ids["other"]["message_id"]}
    before = rest.stored()
    with Watchers(rest.world) as watchers:
        for row in REST:
            status = {exists: rest_status(row, caller.knocks_with, caller.scopes, exists=exists) for exists in (1, 0)}
            whose = [which for which in ids if status[which == "own"] >= 400]
            if caller.knocks_with == "admin" and row.opens == ADMIN:
                whose = ["missing"] if row.names_something else []  # the operator knows all accounts
            answers = {
                which: rest.ask(caller, row, ids[which]) for which in whose if row.names_something or which == "own"
            }
            for which, answer in answers.items():
                assert_refused(answer, status[which == "own"], row, which)
            told = [plain(answers[which], ids[which]) for which in answers if which != "own"]
            assert all(one == told[0] for one in told), row
            if "message_id" in row.path and caller.knocks_with == "account":
                foreign, none = ({**mixed, **more} for more in ({}, {"message_id": ids["missing"]["message_id"]}))
                assert plain(rest.ask(caller, row, foreign), foreign) == plain(rest.ask(caller, row, none), none)
        assert watchers.seen("alpha") == watchers.seen("beta") == []
    assert rest.stored() == before


def assert_refused(answer: httpx.Response, status: int, row: RestRow, which: str) -> None:
    assert answer.status_code == status, (row, which, answer.text)
    if row.success != status or row.opens != ADMIN:
        assert answer.json()["error"]["code"] == CODES[status]


@pytest.mark.parametrize("name", [name for name in CALLERS if name not in ("revoked key", "expired key")])
def test_what_is_allowed_works_and_tells_and_changes_nothing_of_another_account(rest: Rest, name: str) -> None:
    caller = rest.callers[name]
    other = "beta" if caller.account != "beta" else "alpha"
    others = rest.objects(other)
    before = rest.shown_to(other)
    secret = [
        others["device_id"],
        others["message_id"],
        others["webhook_id"],
        others["claim_id"],
        others["authority_id"],
        others["key_name"],
        f"{other}.example",
    ]
    for row in REST:
        if rest_status(row, caller.knocks_with, caller.scopes, exists=True) == row.success:
            admin = row.opens == ADMIN
            own: Ids = {}
            if row.names_something:
                own = rest.of_the_installation(row) if admin else rest.objects(caller.account, wanted(row))
            answer = rest.ask(caller, row, own)
            assert answer.status_code == row.success, (row, answer.text)
            if not admin:
                assert not [one for one in secret if one in answer.text], row
    if caller.knocks_with != "admin":
        for was, now in zip(before, rest.shown_to(other), strict=True):
            assert json.loads(now) == json.loads(was)


def test_both_accounts_may_use_the_same_words(rest: Rest) -> None:
    """An id, a message id, an Idempotency-Key: none of them tells that another account has used it."""
    new = {"name": "Twin", "type": "sensor", "device_id": "twin"}
    made = {}
    for account in ("alpha", "beta"):
        caller = rest.callers[f"{account} full"]
        first = rest.asked(caller, "POST", "/v1/iot/devices", {}, new, {}, **{"Idempotency-Key": "same"})
        again = rest.asked(caller, "POST", "/v1/iot/devices", {}, new, {}, **{"Idempotency-Key": "same"})
        command = {"payload": account, "message_id": "same"}
        sent = rest.asked(caller, "POST", "/v1/iot/devices/twin/commands", {}, command, {})
        assert (first.status_code, again.content, sent.status_code) == (201, first.content, 202)
        assert "idempotency-replayed" not in first.headers
        made[account] = json.loads(first.content)["mqtt_credentials"]
    for field_name in ("username", "password"):
        assert made["alpha"][field_name] != made["beta"][field_name]


def test_figures_of_the_process_are_for_the_machine_itself(rest: Rest) -> None:
    row = next(row for row in REST if row.path == "/metrics")
    for caller in rest.callers.values():
        assert rest.ask(caller, row, {}, client=ELSEWHERE).status_code == 404
