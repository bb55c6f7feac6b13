"""The contract of ``ports.GrantTable``, on the native core."""

from __future__ import annotations

import pytest

from broker._core.packets import decode, encode
from broker._core.reactor import Reactor
from broker._core.shard import Shard
from broker.config import Capabilities
from broker.net.gateway import Gateway, core_limits
from broker.policy.credentials import certificate_credential, credential
from broker.policy.policies import APPLICATION, DEVICE
from broker.ports import PROTOCOLS, AccountStanding, Durability, Grant, Standing
from broker.reasons import ReasonCode
from broker.storage.tables import DEVICES, META, PASSWORDS_USED, RETAINED, SEEN, SESSIONS, WILLS
from broker.wire import Connack, Connect, Properties, Puback, Publish, Will

SECRET = bytes(32)
USER_NAME, PASSWORD = "thermometer", b"secret"
CREDENTIAL = credential(SECRET, USER_NAME, PASSWORD)
BY_CERTIFICATE = certificate_credential(SECRET, 7, "")
GRANT = Grant(1, 7, USER_NAME, USER_NAME, DEVICE)


class Table:
    """A grant table, and clients that come to it."""

    def __init__(self) -> None:
        self.shard = Shard(core_limits(Capabilities()), secret=SECRET, hash_seed=1, now_ns=0)
        self.reactor = Reactor(self.shard, on_rare=list, on_batch=list, again=lambda _again: None)
        self.port = Gateway(self.reactor, self._at_once)
        self.waits = 0

    async def _at_once(self) -> None:
        """Nothing waits for a disk here."""
        self.waits += 1

    def connect(self, will: Will | None = None, expiry_s: int = 0) -> int:
        handle = self.shard.open_connection(0, 0)
        properties: Properties = {"session_expiry_interval": expiry_s} if expiry_s else {}
        self.shard.feed(handle, encode(Connect("c", True, 60, will, USER_NAME, PASSWORD, properties=properties), 5), 0)
        return handle

    def settle(self) -> list[str]:
        """Write the open batch; gives the table of each of its changes."""
        self.shard.run(0)
        sealed = self.shard.seal()
        assert sealed is not None
        self.shard.settle(sealed[0])
        return [table for table, _, _ in sealed[1]]

    def admit(self, handle: int, grant: Grant, named: bytes = b"") -> bool:
        policy = grant.policy
        return self.shard.admit(
            handle,
            grant.account_id,
            grant.principal_id,
            grant.principal,
            grant.device_id,
            policy.publish,
            policy.subscribe,
            credential=named,
        )

    def is_in(self, handle: int) -> bool:
        return self.shard.is_open(handle) and self.shard.describe(handle)["client_id"] == "c"


def test_a_credential_in_the_table_lets_in_and_its_removal_cuts() -> None:
    table = Table()
    table.port.put_grant(CREDENTIAL, GRANT)
    handle = table.connect()
    assert table.is_in(handle)
    table.port.remove_grant(CREDENTIAL)
    assert not table.shard.is_open(handle)


def test_the_same_grant_again_cuts_nobody_and_another_one_does() -> None:
    table = Table()
    table.port.put_grant(CREDENTIAL, GRANT)
    handle = table.connect()
    table.port.put_grant(CREDENTIAL, GRANT)
    assert table.is_in(handle)
    table.port.put_grant(CREDENTIAL, Grant(1, 7, USER_NAME, USER_NAME, APPLICATION))
    assert not table.shard.is_open(handle)


def test_who_became_known_while_being_judged_is_cut_when_the_grant_ends() -> None:
    table = Table()
    handle = table.connect()
    assert not table.is_in(handle)
    table.port.put_grant(CREDENTIAL, GRANT)
    assert table.admit(handle, GRANT)
    assert table.is_in(handle)
    table.port.remove_grant(CREDENTIAL)
    assert not table.shard.is_open(handle)


def test_who_comes_in_by_a_named_credential_is_cut_with_it_and_with_no_other() -> None:
    table = Table()
    handle = table.connect()
    table.port.put_grant(CREDENTIAL, GRANT)  # its password is known, but it was let in by something else
    table.port.put_grant(BY_CERTIFICATE, GRANT)
    assert table.admit(handle, GRANT, BY_CERTIFICATE)
    assert table.is_in(handle)
    table.port.remove_grant(CREDENTIAL)
    table.port.put_grant(BY_CERTIFICATE, GRANT)
    assert table.is_in(handle)
    table.port.remove_grant(BY_CERTIFICATE)
    assert not table.shard.is_open(handle)
    assert table.shard.counters()["grants"] == 0


def test_a_named_credential_that_has_ended_lets_nobody_in() -> None:
    table = Table()
    handle = table.connect()
    table.port.put_grant(CREDENTIAL, GRANT)
    assert not table.admit(handle, GRANT, BY_CERTIFICATE)
    assert not table.shard.is_open(handle)
    assert decode(table.shard.take_output(handle), 5, from_client=False) == Connack(False, ReasonCode.NOT_AUTHORIZED)
    with pytest.raises(ValueError, match="32 bytes"):
        table.admit(table.connect(), GRANT, b"short")


def test_a_certificates_credential_is_that_of_no_user_name_and_password() -> None:
    fingerprint = "ab" * 32
    digest = certificate_credential(SECRET, 7, fingerprint)
    words = ("", "certificate", fingerprint, "\0\0\0\7" + fingerprint)
    assert digest not in {credential(SECRET, one, other.encode()) for one in words for other in words}
    assert digest != certificate_credential(SECRET, 7, "")
    assert digest != certificate_credential(SECRET, 8, fingerprint)


@pytest.mark.parametrize(("topic_name", "allowed"), [("devices/a/presence", False), ("devices/a/presences", True)])
def test_nobody_but_the_broker_says_who_is_present(topic_name: str, allowed: bool) -> None:
    table = Table()
    table.port.put_grant(CREDENTIAL, Grant(1, 7, "back end", "", APPLICATION, Durability.MEMORY))
    handle = table.connect()
    table.shard.take_output(handle)
    table.shard.feed(handle, encode(Publish(topic_name, b"", 1, packet_id=1), 5), 0)
    answer = decode(table.shard.take_output(handle), 5, from_client=False)
    assert isinstance(answer, Puback)
    assert answer.reason_code == (ReasonCode.NO_MATCHING_SUBSCRIBERS if allowed else ReasonCode.NOT_AUTHORIZED)


def test_a_device_that_is_removed_goes_with_all_it_has_in_one_batch_and_the_call_waits_for_it() -> None:
    table = Table()
    table.port.put_grant(CREDENTIAL, GRANT)
    table.shard.put_grant(credential(SECRET, "other", b""), 1, 8, "other", "", ("#",), ("#",))
    will = Will("devices/thermometer/status", b"gone")
    table.shard.feed(table.connect(will, 3600), encode(Publish(will.topic_name, b"on", 1, True, packet_id=1), 5), 0)
    for topic in (b"devices/thermometer/config", b"devices/other/config"):
        table.shard.publish(1, topic, b"set", 1, 0, retain=True)
    put = table.settle()
    assert sorted(set(put)) == [META, RETAINED, SESSIONS, WILLS]
    table.port.remove_grant(CREDENTIAL)
    records = [(one, b"\0\0\0\7") for one in (DEVICES, SEEN, PASSWORDS_USED)]
    removal = table.port.remove_device(1, 7, "thermometer", records)
    with pytest.raises(StopIteration):
        removal.send(None)
    assert sorted(table.settle()) == [DEVICES, PASSWORDS_USED, RETAINED, RETAINED, SEEN, SESSIONS, WILLS]
    assert table.waits == 1
    assert table.shard.retained(1)[0] == 1


def test_quota_that_is_added_leaves_what_was_counted_and_not_taken_yet() -> None:
    table = Table()
    table.port.put_grant(CREDENTIAL, Grant(1, 7, "back end", "", APPLICATION))
    table.port.set_quota(1, 10, 1000)
    handle = table.connect()
    packet = encode(Publish("t", b"12345"), 5)
    table.shard.feed(handle, packet * 3, 0)
    table.port.add_quota(1, 5, -100)
    assert table.shard.quota_left(1) == (10 - 3 + 5, 1000 - 3 * len(packet) - 100)
    assert table.port.take_usage() == [(1, 7, 3, 3 * len(packet), 0, 0)]


def test_figures_of_who_is_not_known_are_zeros() -> None:
    table = Table()
    assert table.port.standing(7) == Standing()
    assert table.port.account_standing(1) == AccountStanding()
    assert table.port.connections_peak(1) == 0


def test_figures_are_those_of_the_moment_and_the_peak_that_of_the_day() -> None:
    table = Table()
    table.shard.set_door(0, PROTOCOLS.index("wss"))
    table.port.put_grant(CREDENTIAL, GRANT)
    handle = table.connect(expiry_s=100)
    assert table.is_in(handle)
    table.shard.feed(handle, encode(Publish("devices/thermometer/status", b"on", retain=True), 5), 0)
    assert table.port.standing(7) == Standing(1, 1, 0)
    found = table.port.account_standing(1)
    assert (found.connections, found.connections_peak, found.retained_count) == ((0, 0, 0, 1), 1, 1)
    assert found.retained_bytes > 0
    table.shard.close_connection(handle)
    assert table.port.standing(7) == Standing(0, 1, 0)
    assert table.port.account_standing(1).connections == (0, 0, 0, 0)
    assert table.port.connections_peak(1) == 1
    table.port.begin_day(20_000)
    table.port.begin_day(20_000)
    assert table.port.connections_peak(1) == 0
