"""Who is changing something now, and what: told at the door, known to whoever commits the change.

Here belong the deed of the running task and the words about it. Not here: the log of deeds (``audit``). A deed belongs
to a task and the tasks that it starts (``contextvars``): what is committed there is done by its actor. Everything
else, such as housekeeping, is nobody's deed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

ActorKind = Literal["key", "admin_key", "command_line", "claim_token", "authority"]

INSTALLATION = 0
"""In place of an account's number: a deed that concerns no single account."""

TARGET_MAXIMUM_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Actor:
    """Who does it, and from where. ``number`` and ``name`` are those of a key; 0 and empty where there is none.

    A claim token and an authority have a ``name`` alone; they act for a device that registers itself.
    """

    kind: ActorKind
    number: int = 0
    name: str = ""
    address: str = ""
    request_id: str = ""


@dataclass(slots=True)
class Deed:
    """One change: ``verb`` as a word such as ``create_device``, ``target`` an id, ``fields`` the names of what changes.

    Never a value of a field, and never a secret. ``is_noted`` says that its entry is on its way to disk.
    """

    actor: Actor
    verb: str
    at: int
    account_id: int
    target: str = ""
    fields: tuple[str, ...] = ()
    is_noted: bool = False


_current: ContextVar[Deed | None] = ContextVar("deed", default=None)


@contextmanager
def doing(deed: Deed) -> Iterator[None]:
    """Let a deed be the running task's, and that of the tasks which it starts meanwhile."""
    token = _current.set(deed)
    try:
        yield
    finally:
        _current.reset(token)


def current() -> Deed | None:
    """Give the deed of the running task that is not noted yet."""
    deed = _current.get()
    return None if deed is None or deed.is_noted else deed


def about(target: str, account_id: int | None = None) -> None:
    """Say what the running task's deed is about, where its door could not know; before it is committed."""
    deed = current()
    if deed is not None:
        deed.target = target
        deed.account_id = deed.account_id if account_id is None else account_id
