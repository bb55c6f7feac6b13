"""The devices of one account, as lists ask for them.

The words in capitals are what ``scan`` may be asked for: any device, or those of one status.
"""

from collections.abc import Callable
from typing import final

ANY: int
INACTIVE: int
ACTIVE: int
ERROR: int

@final
class Roster:
    """Numbers (32 bits) in ascending order, which is that of registration, and what filters look at.

    ``text`` is what is searched, in any bytes; ``device_type`` at most 65,535. A page costs what it holds, a change the
    logarithm of the number of devices, and 16 bytes of memory moved for each that is newer than one that is removed.
    """

    def __len__(self) -> int: ...
    def add(self, number: int, device_type: bytes, text: bytes, active: bool) -> None:
        """Take in a device. Raises ``ValueError`` for a number that is there."""
    def replace(self, number: int, device_type: bytes, text: bytes, active: bool) -> None:
        """Take what a device is now. Raises ``KeyError`` for one that is not there, as all below do."""
    def refuse(self, number: int) -> None:
        """Note that a login was refused: whether the device is in error has to be judged from now on."""
    def remove(self, number: int) -> None:
        """Forget a device."""
    def page(self, limit: int, offset: int) -> list[int]:
        """Give up to ``limit`` numbers behind the newest ``offset`` ones, newest first."""
    def below(self, number: int | None, limit: int) -> list[int]:
        """Give up to ``limit`` numbers below one (None: the newest), newest first."""
    def above(self, number: int, limit: int) -> list[int]:
        """Give up to ``limit`` numbers above one, oldest first."""
    def scan(
        self,
        below: int | None,
        needle: bytes,
        device_type: bytes,
        status: int,
        judge: Callable[[int], bool],
        skip: int,
        take: int,
        at_most: int,
    ) -> tuple[int, list[int], int | None]:
        """Look at the devices below a number (None: all), newest first, for about ``at_most`` nanoseconds (1 or more).

        ``needle`` is to be in the text, ``device_type`` to be the type; empty: any. ``judge`` tells whether an active
        device that was refused is in error. Gives how many match, the numbers of those behind the first ``skip`` (at
        most ``take``), and below which number to go on; None where all were looked at. ``judge`` changes nothing here.
        """
