"""The engine: every rare packet gets its answer here.

Here belongs which rule a packet meets. Not here: the rules themselves, and waiting: a CONNECT that has to be judged is
handed to ``ask``, and whoever waits for the judgement brings it back with ``judged``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from broker._core.packets import decode, encode
from broker.engine.core import CoreFace, ProxyRefused, RareKind, RarePacket
from broker.engine.subscriptions import subscribe, unsubscribe
from broker.ports import ConnectRequest, Grant, Observer, Refusal
from broker.reasons import ReasonCode
from broker.stories import Refused
from broker.wire import Connect, ProtocolViolation, Subscribe, Unsubscribe

Ask = Callable[[int, ConnectRequest], None]
AddressOf = Callable[[int], str]
CertificateOf = Callable[[int], bytes]

REPORTED: dict[int, str] = {RareKind.REFUSED: "connection_refused", RareKind.CLOSED: "connection_closed"}


class Engine:
    """Answers what the core asks. ``ask(handle, request)`` must lead to one ``judged(handle, ...)``, at any time."""

    def __init__(
        self,
        core: CoreFace,
        ask: Ask,
        address_of: AddressOf,
        observer: Observer,
        certificate_of: CertificateOf = lambda _: b"",
        system_reader: Callable[[int], None] = lambda _: None,
    ) -> None:
        """``system_reader`` hears of connections that have subscribed to something below `$SYS`."""
        self._core = core
        self._ask = ask
        self._address_of = address_of
        self._observer = observer
        self._certificate_of = certificate_of
        self._system_reader = system_reader

    def answer(self, rare: Iterable[RarePacket]) -> None:
        """Answer packets in the order given; each connection has at most one among them."""
        for kind, handle, version, reason_code, listener, packet in rare:
            if kind == RareKind.TLS_FAILED:
                self._observer.event("tls_failed", why=packet.decode(), address=self._address_of(handle), handle=handle)
            elif kind in REPORTED:
                self._report(REPORTED[kind], handle, reason_code, packet)
            elif kind == RareKind.PROXY_REFUSED:
                why = ProxyRefused(packet[0]).name.lower()
                self._observer.event("proxy_refused", why=why, address=self._address_of(handle), handle=handle)
            elif self._core.is_open(handle):
                self._answer_one(kind, handle, version, listener, packet)

    def judged(self, handle: int, outcome: Grant | Refusal) -> None:
        """Take the Authenticator's judgement; a connection that is gone by now is no error.

        Raises ``ValueError`` for a grant that cannot be kept (a principal's number that belongs to another); the
        connection is refused then.
        """
        if isinstance(outcome, Refusal):
            self._core.fail_connection(handle, outcome.reason_code)
            return
        try:
            self._admit(handle, outcome)
        except Exception:
            self._core.fail_connection(handle, ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR)
            raise

    def _admit(self, handle: int, grant: Grant) -> None:
        self._core.admit(
            handle,
            grant.account_id,
            grant.principal_id,
            grant.principal,
            grant.device_id,
            grant.policy.publish,
            grant.policy.subscribe,
            durability=grant.durability.level,
            limits=grant.limits,
            credential=grant.credential,
        )

    def _report(self, event: str, handle: int, reason_code: int, refused: bytes) -> None:
        told = {"why": Refused(refused[0]).name.lower()} if refused else {}
        address = self._address_of(handle)
        self._observer.event(event, reason_code=f"0x{reason_code:02X}", **told, address=address, handle=handle)

    def _answer_one(self, kind: int, handle: int, version: int, listener: int, packet: bytes) -> None:
        try:
            decoded = decode(packet, version)
        except ProtocolViolation as violation:
            self._core.fail_connection(handle, violation.reason_code)
            return
        if kind == RareKind.CONNECT and isinstance(decoded, Connect):
            self._ask(handle, self._request(handle, version, listener, decoded))
        elif isinstance(decoded, Subscribe):
            self._core.reply(handle, encode(subscribe(self._core, handle, decoded), version))
            if any("$SYS" in one.topic_filter for one in decoded.subscriptions):  # one too many is no harm
                self._system_reader(handle)
        elif isinstance(decoded, Unsubscribe):
            self._core.reply(handle, encode(unsubscribe(self._core, handle, decoded), version))
        else:  # AUTH, although no CONNECT could name a method
            self._core.fail_connection(handle, ReasonCode.PROTOCOL_ERROR)

    def _request(self, handle: int, version: int, listener: int, packet: Connect) -> ConnectRequest:
        return ConnectRequest(
            listener=listener,
            address=self._address_of(handle),
            protocol_version=version,
            client_id=packet.client_id,
            user_name=packet.user_name,
            password=packet.password,
            certificate=self._certificate_of(handle),
        )
