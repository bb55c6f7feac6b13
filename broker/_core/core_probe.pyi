"""The core's inner tables as tests see them; the broker does not use this module."""

from typing import Self, final

from broker._core.shard import Shard

@final
class ProbedWheel:
    """A timing wheel with timers of its own, named by numbers."""

    def __new__(cls, now_ns: int) -> Self: ...
    def set(self, name: int, deadline_ns: int) -> None:
        """Arm a timer, or move it."""

    def cancel(self, name: int) -> None:
        """Disarm a timer; nothing happens where it is not armed."""

    def fire(self, now_ns: int) -> list[int]:
        """Turn the wheel to a moment; returns the names of what was due, in the order of firing."""

    def next_ns(self) -> int | None:
        """When the wheel has to be turned again; None when nothing is armed."""

    @property
    def armed(self) -> int:
        """How many timers are armed."""

def topic_tables(shard: Shard, account_id: int) -> dict[str, int] | None:
    """Sizes of the tables of an account's topic space; None for an account that the shard does not know.

    ``filter_bytes`` and ``filter_chunk_bytes`` are of all accounts: what subscriptions, filters and shared groups take,
    and what is held from the system for them.
    """

def retained_tables(shard: Shard, account_id: int) -> dict[str, int] | None:
    """Sizes of the tree of an account's retained messages, and the runs that stand on its root; None as above."""

def match_topics(shard: Shard, account_id: int, topic_names: list[bytes]) -> int:
    """Match one name after the other, and deliver nothing; returns how many receivers were found in all."""

def struct_sizes() -> dict[str, int]:
    """Bytes of the structs that every client costs."""

def alias_bytes(shard: Shard, handle: int) -> int:
    """Bytes that the topic aliases of a connection take, both ways."""

def cut_reads(shard: Shard, cut: bool) -> None:
    """Let the shard believe that a round had no time to read everything that had arrived, or that it had."""

def deafen(shard: Shard, handle: int) -> None:
    """Do what the reactor does with a connection that must not be read: it does not listen to it any more."""

def waking(shard: Shard) -> int:
    """How many connections wait to be listened to again; more than there are when their list is a circle."""

def parked(shard: Shard) -> dict[str, int]:
    """What is known of deliveries that wait on disk alone: one by one (``single``), as ``runs``, and the ``chunks``."""
