"""The listeners of one broker on its reactor: what stands between their sockets and MQTT.

Here belongs how a listener's configuration becomes the core's: TLS, WebSocket, PROXY headers, rights of who comes in.
Not here: opening sockets (``listeners``), reading certificates (``certificates``), frames and records (the core).
"""

from __future__ import annotations

from broker._core.reactor import Reactor
from broker._core.tls import TlsContext
from broker.config import BrokerConfig
from broker.doors import WEBSOCKETS, ListenerConfig
from broker.net.certificates import CertificateStore, TlsMaterial
from broker.net.forwarded import client_address
from broker.net.listeners import Doors
from broker.net.shown import ShownCertificates
from broker.net.upgrades import UpgradeRules, Upgrades
from broker.ports import PROTOCOLS, Durability, Observer

OPEN_PRINCIPAL_ID = 0
OPEN_ACCOUNT_ID = 0


class Entrances:
    """Lets clients in by all listeners of a configuration.

    ``upgrades`` answers the requests of WebSockets; ``shown`` knows who came in by a certificate.
    """

    def __init__(
        self, config: BrokerConfig, reactor: Reactor, certificates: CertificateStore, observer: Observer
    ) -> None:
        self._config = config
        self._reactor = reactor
        self._certificates = certificates
        self._observer = observer
        self._contexts: dict[str, tuple[int, TlsContext]] = {}
        self.shown = ShownCertificates(reactor.shard, reactor.soon)
        self.upgrades = Upgrades(
            reactor.shard,
            reactor,
            {number: _rules(one) for number, one in enumerate(config.listeners)},
            lambda peer, chain: client_address(peer, chain, config.trusted_proxies),
            self._refused,
        )

    def open(self, doors: Doors) -> None:
        """Accept on all of them from now on. Raises ``ValueError`` for a certificate that TLS does not take."""
        self._reactor.trust(self._config.trusted_proxies)
        for number, listener in enumerate(self._config.listeners):
            self._give_rights(number, listener)
            self._reactor.add_listener(
                doors.listeners[number].fileno(),
                tls=self._context(number, listener) if listener.is_encrypted else None,
                websocket=listener.transport in WEBSOCKETS,
                proxy=listener.proxy_protocol,
            )

    def take(self, name: str, material: TlsMaterial) -> None:
        """Shake hands with this certificate from now on; who is connected stays.

        Raises ``ValueError`` when it is not taken; the old one stays in use.
        """
        if name not in self._contexts:
            return
        number, previous = self._contexts[name]
        context = _made(self._config.listeners[number], material, previous)
        self._reactor.set_tls(number, context)
        self._contexts[name] = number, context
        self._set_list(number, material)

    def _give_rights(self, number: int, listener: ListenerConfig) -> None:
        shard = self._reactor.shard
        if listener.open:
            shard.open_listener(number, OPEN_ACCOUNT_ID, OPEN_PRINCIPAL_ID, "open")
        shard.set_door(number, PROTOCOLS.index(listener.protocol))
        shard.set_durability(number, Durability(listener.durability).level)
        if listener.applications_from_anywhere:
            shard.allow_applications(number)

    def _context(self, number: int, listener: ListenerConfig) -> TlsContext:
        material = self._certificates.material(listener.name)
        context = _made(listener, material, None)
        self._contexts[listener.name] = number, context
        self._set_list(number, material)
        return context

    def _set_list(self, number: int, material: TlsMaterial) -> None:
        if self._config.listeners[number].crl_file is not None:
            self.shown.set_list(number, material.revoked)

    def _refused(self, handle: int, status: int) -> None:
        self._observer.event("upgrade_refused", status=status, address=self._reactor.peer(handle), handle=handle)


def _made(listener: ListenerConfig, material: TlsMaterial, previous: TlsContext | None) -> TlsContext:
    return TlsContext(
        material.certificate_chain_pem,
        material.private_key_pem,
        client_ca=material.client_ca_pem,
        crl=material.crl_pem,
        client_certificate=listener.client_certificate,
        protocol="http/1.1" if listener.transport in WEBSOCKETS else "mqtt",
        previous=previous,
    )


def _rules(listener: ListenerConfig) -> UpgradeRules:
    return UpgradeRules(listener.path, listener.subprotocol_required, listener.allowed_origins)
