"""Judges JSON text a part at a time, and writes it without blanks: native, so that a large body costs little."""

from typing import Self, final

@final
class JsonScan:
    """Reads one JSON text, UTF-8 of which somebody knows that it is.

    No key is twice in an object, which has up to 10,000; no number overflows, and there are ``depth_maximum`` levels
    (up to 128). Of the value of an outermost object's member that is a list, the first ``items_maximum`` are found.
    """

    def __new__(cls, text: bytes, depth_maximum: int, items_maximum: int = 0) -> Self: ...
    def advance(self, cost_maximum: int) -> bool:
        """Read on, for about as long as passing over so many bytes takes; tells whether all has been read.

        Raises ``ValueError`` that says what is wrong, and where.
        """

    def piece(self, start: int, end: int) -> bytes:
        """Give a part of the text without blanks, by places that ``members`` or ``items`` tell."""

    @property
    def compact(self) -> bytes:
        """The text without blanks, as far as it has been read."""

    @property
    def is_object(self) -> bool:
        """Whether the text begins with an object."""

    @property
    def members(self) -> list[tuple[bytes, int, int, bool]]:
        """Of the outermost object: each key, where its value begins and ends, whether a surrogate is alone in it."""

    @property
    def has_lone_surrogates(self) -> bool:
        """Whether an escape somewhere stands for half a character, which is JSON and no text."""

    @property
    def items(self) -> list[tuple[int, int]]:
        """Where items of lists begin and end that are values of the outermost object's members."""

    @property
    def item_count(self) -> int:
        """How many items there are in all."""

    @property
    def value_count(self) -> int:
        """How many values there are, lists and objects among them."""
