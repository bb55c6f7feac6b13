"""Numbers of devices by the hashes of their names."""

from typing import final

@final
class Names:
    """Finds numbers by names that it does not keep: some 27 bytes for each, whatever the names are.

    It grows by one bucket at a time, so that no addition moves all the others and holds the loop meanwhile.
    """

    def __len__(self) -> int: ...
    def add(self, name: str, number: int) -> None:
        """Let a number (32 bits) be found by a name, besides those that are."""
    def remove(self, name: str, number: int) -> None:
        """Take back one ``add``. Raises ``KeyError`` where there is none."""
    def find(self, name: str) -> list[int]:
        """Give the numbers that were added under names of this hash; whether it is this name, the caller looks."""
