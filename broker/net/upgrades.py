"""The HTTP side of WebSocket: one request in, one answer out; frames are the core's.

Here belongs whether a request becomes a WebSocket, and who its client is behind a proxy. Not here: bytes on sockets,
frames, MQTT.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol

from websockets.exceptions import NegotiationError
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol
from websockets.typing import Origin, Subprotocol

SUBPROTOCOL = Subprotocol("mqtt")
LISTS = ("Connection", "Upgrade", "Sec-WebSocket-Protocol")  # what the library takes apart, some microseconds an item
LIST_ITEMS_MAXIMUM = 64  # of all of them together: thousands have room in a request
MALFORMED = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class UpgradeRules:
    """What one listener asks of a request. ``allowed_origins`` are those of browsers' pages; empty: any will do."""

    path: str = "/mqtt"
    subprotocol_required: bool = True
    allowed_origins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Upgrade:
    """The answer to a request. ``status`` is HTTP's; frames follow 101 and nothing else."""

    status: int
    answer: bytes
    forwarded_for: tuple[str, ...] = ()

    @property
    def accepted(self) -> bool:
        """Whether frames follow."""
        return self.status == HTTPStatus.SWITCHING_PROTOCOLS


def judge_upgrade(request: bytes, rules: UpgradeRules) -> Upgrade:
    """Answer one whole request. [MQTT-6.0.0-3] [MQTT-6.0.0-4]."""
    server = ServerProtocol(
        origins=_origins(rules),
        subprotocols=[SUBPROTOCOL],
        select_subprotocol=_selection(rules),
    )
    server.receive_data(request)
    events = server.events_received()
    if not events or not isinstance(events[0], Request):
        answer = b"".join(server.data_to_send())  # of a request that is too long
        return Upgrade(int(answer[9:12]) if answer else HTTPStatus.BAD_REQUEST, answer or MALFORMED)
    response = _response(server, events[0], rules)
    forwarded_for = tuple(events[0].headers.get_all("X-Forwarded-For"))
    return Upgrade(response.status_code, response.serialize(), forwarded_for)


def _response(server: ServerProtocol, request: Request, rules: UpgradeRules) -> Response:
    if request.path.partition("?")[0] != rules.path:
        return server.reject(HTTPStatus.NOT_FOUND, f"MQTT is spoken at {rules.path}.\n")
    if sum(value.count(",") for name in LISTS for value in request.headers.get_all(name)) >= LIST_ITEMS_MAXIMUM:
        return server.reject(HTTPStatus.BAD_REQUEST, "Too many items in a list.\n")
    return server.accept(request)


def _origins(rules: UpgradeRules) -> list[Origin | re.Pattern[str] | None] | None:
    """Give those that are allowed: a program that is no browser sends none, and none is asked of it."""
    return [None, *(Origin(one) for one in rules.allowed_origins)] if rules.allowed_origins else None


def _selection(
    rules: UpgradeRules,
) -> Callable[[ServerProtocol, Sequence[Subprotocol]], Subprotocol | None]:
    def select(_server: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol | None:
        if SUBPROTOCOL in offered:
            return SUBPROTOCOL
        if offered or rules.subprotocol_required:
            raise NegotiationError(f"expected the subprotocol {SUBPROTOCOL}")
        return None

    return select


class UpgradingCore(Protocol):
    """What an answer needs of the core; handles may have become invalid meanwhile."""

    def answer_upgrade(self, handle: int, answer: bytes, accepted: bool) -> bool:
        """Give a request its answer."""
        ...


class Believing(Protocol):
    """What a client's address needs of the reactor."""

    def peer(self, handle: int) -> str:
        """Give the address a connection comes from."""
        ...

    def believe(self, handle: int, address: str) -> None:
        """Take an address as that of a connection's client."""
        ...


class Upgrades:
    """Answers the requests of WebSocket listeners.

    ``rules`` are by number of listener; ``client_address(peer, forwarded_for)`` gives the address to believe;
    ``refused(handle, status)`` is told of each that was not accepted.
    """

    def __init__(
        self,
        core: UpgradingCore,
        reactor: Believing,
        rules: dict[int, UpgradeRules],
        client_address: Callable[[str, Sequence[str]], str],
        refused: Callable[[int, int], None],
    ) -> None:
        self._core = core
        self._reactor = reactor
        self._rules = rules
        self._client_address = client_address
        self._refused = refused

    def answer(self, handle: int, listener: int, request: bytes) -> None:
        """Answer one request; a connection that is gone by now is no error."""
        upgrade = judge_upgrade(request, self._rules.get(listener, UpgradeRules()))
        if not upgrade.accepted:
            self._refused(handle, upgrade.status)
        elif upgrade.forwarded_for:
            peer = self._reactor.peer(handle)
            client = self._client_address(peer, upgrade.forwarded_for)
            if client != peer:
                self._reactor.believe(handle, client)
        self._core.answer_upgrade(handle, upgrade.answer, upgrade.accepted)
