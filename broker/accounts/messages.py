"""Messages to devices and what has become of them: in memory, and on disk together with what the core records.

Here belong their states and bounds. Not here: what happens to a delivery (the core tells it), and how a message looks
to the outside (``broker.admin``).
"""

from __future__ import annotations

import secrets
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from broker.accounts.ledger import Ledger
from broker.accounts.records import Device, Record
from broker.errors import Conflict, NotFound
from broker.ports import Change, DeviceAnswer, TrackedKind, TrackedNote
from broker.reasons import DropReason
from broker.storage.tables import TRACKED, number_key

KEPT_S = 7 * 24 * 3600
DEVICE_MESSAGES_MAXIMUM = 100
ACCOUNT_MESSAGES_MAXIMUM = 10_000

ACCOUNT_ANSWERS_MAXIMUM_BYTES = 16 * 1024 * 1024
ANSWER_MARK = b"a"
KEY_BYTES = 8

NONE = -1
NO_SESSION = -2
REPLACED = -3
REASONS = {NO_SESSION: "NO_SESSION", REPLACED: "REPLACED"}

MessageState = Literal["queued", "sent", "acknowledged", "answered", "expired", "dropped"]


@dataclass(frozen=True, slots=True)
class MessageRecord(Record):
    """A message to a device; times are 0 for never.

    ``reason`` is why a session dropped it or did not take it: a ``DropReason``, or a number below 0. ``number`` is the
    message's on disk, 0 while it has none. ``sent_once`` tells that it was sent with QoS 0. An answer's payload has an
    entry of its own, where it is kept: not one that is too large.
    """

    device_number: int
    account_id: int
    tracking: int
    message_id: str
    kind: str
    qos: int
    created_at: int
    expires_at: int = 0
    number: int = 0
    sent_at: int = 0
    acknowledged_at: int = 0
    ended_at: int = 0
    answered_at: int = 0
    sent_once: bool = False
    reason: int = NONE
    answer_bytes: int = 0
    answer_kept: bool = False

    @property
    def key(self) -> bytes:
        """Under which it is stored."""
        return number_key(self.device_number) + number_key(self.tracking)

    @property
    def answer_key(self) -> bytes:
        """Under which its answer's payload is."""
        return self.key + ANSWER_MARK


@dataclass(slots=True, eq=False)
class SentMessage:
    """A message and who has it: sessions that have it queued or in flight, and whether it is retained."""

    record: MessageRecord
    sessions: int = 0
    retained: bool = False

    @property
    def is_waiting(self) -> bool:
        """Whether something may still become of it."""
        return self.sessions > 0 or self.retained

    def state(self, now_s: int) -> MessageState:
        """The best that has become of it, in any of the device's sessions."""
        record = self.record
        if record.answered_at:
            return "answered"
        if record.acknowledged_at:
            return "acknowledged"
        if record.sent_once or (record.sent_at and self.is_waiting):
            return "sent"
        if record.reason == DropReason.MESSAGE_EXPIRED or 0 < record.expires_at < now_s:  # never too early
            return "expired"
        return "queued" if self.is_waiting else "dropped"

    @property
    def reason(self) -> str | None:
        """Why it was dropped, or did not come in time."""
        reason = self.record.reason
        if reason >= 0:
            return DropReason(reason).name
        return REASONS.get(reason)


class Messages:
    """The messages of all devices: of each the newest hundred, of an account the newest 10,000, for seven days.

    ``on_end`` is told of each that was answered, or of which nothing more will become.
    """

    def __init__(self, ledger: Ledger, is_there: Callable[[int], bool]) -> None:
        self._ledger = ledger
        self._is_there = is_there
        self._devices: dict[int, OrderedDict[str, SentMessage]] = {}
        self._accounts: dict[int, OrderedDict[int, SentMessage]] = {}
        self._by_tracking: dict[int, SentMessage] = {}
        self._by_number: dict[int, SentMessage] = {}
        self._dirty: dict[int, SentMessage] = {}
        self._gone: list[bytes] = []
        self._answers: dict[bytes, bytes] = {}  # by key, on their way to disk
        self._answer_bytes: Counter[int] = Counter()  # by account
        self.on_end: Callable[[SentMessage], None] = lambda _: None

    def load(self) -> None:
        """Read all; once the devices are known. The core tells afterwards which of them wait."""
        found = [MessageRecord.decode(value) for key, value in self._ledger.scan(TRACKED) if len(key) == KEY_BYTES]
        for record in sorted(found, key=lambda one: one.created_at):
            if self._is_there(record.device_number):
                self._index(SentMessage(record))

    def __len__(self) -> int:
        return len(self._by_tracking)

    def accounts(self) -> list[int]:
        """List the accounts that have messages."""
        return list(self._accounts)

    def get(self, device_number: int, message_id: str) -> SentMessage:
        """Find a message. Raises ``NotFound``."""
        of_device = self._devices.get(device_number)
        message = None if of_device is None else of_device.get(message_id)
        if message is None:
            raise NotFound("there is no such message")
        return message

    def begin(self, device: Device, message_id: str, kind: str, qos: int, now_s: int, expiry_s: int) -> SentMessage:
        """Expect notes of a new message. Raises ``Conflict`` where the device has one of this id."""
        of_device = self._devices.get(device.device_number)
        if of_device is not None and message_id in of_device:
            raise Conflict(f"there is a message {message_id!r} already")
        tracking = secrets.randbits(32)
        while tracking == 0 or tracking in self._by_tracking:
            tracking = secrets.randbits(32)
        expires_at = now_s + expiry_s if expiry_s else 0
        message = SentMessage(
            MessageRecord(device.device_number, device.account_id, tracking, message_id, kind, qos, now_s, expires_at)
        )
        self._index(message)
        return message

    def published(self, message: SentMessage, now_s: int) -> None:
        """It was published: it goes to disk, and the oldest make room for it."""
        record = message.record
        if not message.is_waiting and record.reason == NONE and not record.sent_at:
            message.record = replace(record, reason=NO_SESSION, ended_at=now_s)
        self._dirty[record.tracking] = message
        of_device = self._devices[record.device_number]
        while len(of_device) > DEVICE_MESSAGES_MAXIMUM:
            self._forget(next(iter(of_device.values())))
        of_account = self._accounts[record.account_id]
        while len(of_account) > ACCOUNT_MESSAGES_MAXIMUM:
            self._forget(next(iter(of_account.values())))

    def withdraw(self, message: SentMessage) -> None:
        """It was not published after all."""
        if self._by_tracking.get(message.record.tracking) is message:
            self._remove(message)

    # ------------------------------------------------------------ what becomes of them

    def note(self, notes: Sequence[TrackedNote], answers: Sequence[DeviceAnswer], now_s: int) -> None:
        """Take what happened; what is known no more is passed over."""
        for one in notes:
            message = self._by_tracking.get(one.tracking) if one.tracking else self._by_number.get(one.number)
            if message is not None and one.principal_id in (0, message.record.device_number):
                self._note(message, one, now_s)
        for answer in answers:
            self._answer(answer, now_s)

    def reconcile(self, now_s: int) -> None:
        """After a start the core has told what waits: what had waited before, and does not, ended with its session."""
        for message in list(self._by_tracking.values()):
            record = message.record
            if not (message.is_waiting or record.ended_at or record.acknowledged_at or record.sent_once):
                self._change(message, ended_at=now_s, reason=int(DropReason.SESSION_ENDED))

    def _note(self, message: SentMessage, note: TrackedNote, now_s: int) -> None:
        record = message.record
        if note.number and not record.number:
            self._change(message, number=note.number)
            self._by_number[note.number] = message
        if note.kind == TrackedKind.TAKEN:
            message.sessions += 1
            if record.ended_at:  # a session that has ended has handed it over
                self._change(message, ended_at=0)
        elif note.kind == TrackedKind.RETAINED:
            message.retained = True
        elif note.kind in (TrackedKind.SENT, TrackedKind.SENT_ONCE):
            once = record.sent_once or note.kind == TrackedKind.SENT_ONCE
            self._change(message, sent_at=record.sent_at or now_s, sent_once=once)
        elif note.kind == TrackedKind.ACKNOWLEDGED:
            message.sessions -= 1
            self._change(message, acknowledged_at=record.acknowledged_at or now_s)
        else:
            self._let_go(message, note, now_s)

    def _let_go(self, message: SentMessage, note: TrackedNote, now_s: int) -> None:
        reason = note.reason
        if note.kind == TrackedKind.RELEASED:
            message.retained = False
            is_late = 0 < message.record.expires_at <= now_s
            reason = int(DropReason.MESSAGE_EXPIRED) if is_late else REPLACED
        elif note.kind == TrackedKind.DROPPED:
            message.sessions -= 1
        self._change(message, reason=reason, ended_at=0 if message.is_waiting else now_s)

    def _change(self, message: SentMessage, **fields: int | bool) -> None:
        message.record = replace(message.record, **fields)  # type: ignore[arg-type]
        self._dirty[message.record.tracking] = message
        if message.record.ended_at or message.record.answered_at:
            self.on_end(message)

    def _answer(self, answer: DeviceAnswer, now_s: int) -> None:
        """Take the first answer to a message: a device that answers again changes nothing."""
        of_device = self._devices.get(answer.principal_id)
        message = None if of_device is None else of_device.get(answer.message_id.decode(errors="replace"))
        if message is not None and not message.record.answered_at:
            if answer.payload is not None:
                self._answers[message.record.answer_key] = answer.payload
            self._change(
                message,
                answered_at=now_s,
                answer_bytes=answer.payload_bytes,
                answer_kept=answer.payload is not None,
            )
            self._make_room(message)

    def _make_room(self, message: SentMessage) -> None:
        """The oldest messages go where an account's answers have become too many."""
        account_id = message.record.account_id
        self._answer_bytes[account_id] += kept_bytes(message.record)
        while self._answer_bytes[account_id] > ACCOUNT_ANSWERS_MAXIMUM_BYTES:
            self._forget(next(iter(self._accounts[account_id].values())))

    async def read_answer(self, record: MessageRecord) -> bytes | None:
        """Give the payload of an answer; None: it is not kept. Raises ``Unavailable``."""
        if not record.answer_kept:
            return None
        pending = self._answers.get(record.answer_key)
        if pending is not None:
            return pending
        (value,) = await self._ledger.read(TRACKED, [record.answer_key])
        return value

    # ------------------------------------------------------------ the end

    def take_changes(self) -> list[Change]:
        """Give what has changed since the last call, to be written."""
        if not self._dirty and not self._gone:
            return []
        changes = [Change(TRACKED, key, None) for key in self._gone]
        changes += [Change(TRACKED, one.record.key, one.record.encode()) for one in self._dirty.values()]
        changes += [Change(TRACKED, key, payload) for key, payload in self._answers.items()]
        self._gone = []
        self._dirty = {}
        self._answers = {}
        return changes

    def prune(self, now_s: int) -> None:
        """Forget what is older than seven days."""
        for of_account in list(self._accounts.values()):
            while of_account:
                oldest = next(iter(of_account.values()))
                if oldest.record.created_at + KEPT_S > now_s:
                    break
                self._forget(oldest)

    def leave(self, device_number: int) -> list[tuple[str, bytes]]:
        """Forget a device's messages: it is being removed. Gives table and key of what is on disk of them."""
        return [(TRACKED, key) for message in self._drop_all(device_number) for key in keys_of(message.record)]

    def _drop_all(self, device_number: int) -> Iterator[SentMessage]:
        of_device = self._devices.get(device_number)
        for message in [] if of_device is None else list(of_device.values()):
            self._remove(message)
            yield message

    def _forget(self, message: SentMessage) -> None:
        self._remove(message)
        self._gone += keys_of(message.record)

    def _index(self, message: SentMessage) -> None:
        record = message.record
        self._devices.setdefault(record.device_number, OrderedDict())[record.message_id] = message
        self._accounts.setdefault(record.account_id, OrderedDict())[record.tracking] = message
        self._by_tracking[record.tracking] = message
        if record.number:
            self._by_number[record.number] = message
        if record.answer_kept:
            self._answer_bytes[record.account_id] += record.answer_bytes

    def _remove(self, message: SentMessage) -> None:
        record = message.record
        of_device = self._devices[record.device_number]
        del of_device[record.message_id]
        if not of_device:
            del self._devices[record.device_number]
        of_account = self._accounts[record.account_id]
        del of_account[record.tracking]
        if not of_account:
            del self._accounts[record.account_id]
        del self._by_tracking[record.tracking]
        self._by_number.pop(record.number, None)
        self._dirty.pop(record.tracking, None)
        self._answers.pop(record.answer_key, None)
        self._answer_bytes[record.account_id] -= kept_bytes(record)
        if not self._answer_bytes[record.account_id]:
            del self._answer_bytes[record.account_id]
        self.on_end(message)


def kept_bytes(record: MessageRecord) -> int:
    """How many bytes of an answer are kept."""
    return record.answer_bytes if record.answer_kept else 0


def keys_of(record: MessageRecord) -> list[bytes]:
    """Give the keys of all that is stored of a message."""
    return [record.key, record.answer_key] if record.answer_kept else [record.key]
