"""What devices are allowed, in the table of grants: by their passwords, and by their certificates.

Here belong a device's grants and when they stand in the table. Not here: the devices themselves (``devices``).
"""

from __future__ import annotations

from dataclasses import replace

from broker.accounts.accounts import Accounts
from broker.accounts.device_passwords import DevicePasswords
from broker.accounts.plans import device_limits
from broker.accounts.records import Device
from broker.policy.credentials import certificate_credential
from broker.policy.policies import DEVICE
from broker.ports import Grant, GrantTable


class DeviceGrants:
    """Gives and takes the grants of devices; ``queue_maximum_bytes`` is the budget of one device's queues, 0: none.

    A password's grant stands in the table for as long as the device may come in, since the core looks there itself. A
    certificate's stands there from the first CONNECT on: the core always asks about those.
    """

    def __init__(
        self,
        secret: bytes,
        table: GrantTable,
        accounts: Accounts,
        passwords: DevicePasswords,
        queue_maximum_bytes: int,
    ) -> None:
        self._secret = secret
        self._passwords = passwords
        self._table = table
        self._accounts = accounts
        self._queue_maximum_bytes = queue_maximum_bytes
        self._by_certificate: set[int] = set()  # the numbers of devices whose certificate's grant stands in the table

    def grant(self, device: Device) -> Grant:
        """Make the grant of a device, with the limits of its account's plan."""
        limits = device_limits(self._accounts.plan(device.account_id), self._queue_maximum_bytes)
        durability = self._accounts.durability(device.account_id)
        device_id = device.device_id
        return Grant(device.account_id, device.device_number, device_id, device_id, DEVICE, durability, limits)

    def give(self, device: Device) -> None:
        """Let a device in, with its limits and level as they are now."""
        for digest in self._passwords.digests(device):
            self._table.put_grant(digest, self.grant(device))
        if device.device_number in self._by_certificate:
            self._table.put_grant(self._certificate_credential(device), self.grant(device))

    def give_by_certificate(self, device: Device) -> Grant:
        """Let a device in by the certificate that it is bound to, or that names it; whoever comes in is cut with it."""
        grant, digest = self.grant(device), self._certificate_credential(device)
        self._table.put_grant(digest, grant)
        self._by_certificate.add(device.device_number)
        return replace(grant, credential=digest)

    def take(self, device: Device) -> None:
        """Let a device in no more, and cut it."""
        for digest in (device.digest, device.previous_digest):
            self.take_password(digest)
        self.take_by_certificate(device)

    def take_password(self, digest: bytes) -> None:
        """Cut who came in by a password, which is valid no more; empty: there is none."""
        if digest:
            self._table.remove_grant(digest)

    def take_by_certificate(self, device: Device) -> None:
        """Cut who came in by a certificate; ``device`` is the record by which it did."""
        if device.device_number in self._by_certificate:
            self._by_certificate.discard(device.device_number)
            self._table.remove_grant(self._certificate_credential(device))

    def _certificate_credential(self, device: Device) -> bytes:
        return certificate_credential(self._secret, device.device_number, device.certificate_fingerprint)
