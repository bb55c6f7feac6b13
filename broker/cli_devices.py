"""The commands about many devices: ``iot-broker devices import`` and ``export``, as CSV.

Here belong the commands, and logins on their way to a file. Not here: what is done with a device
(``broker.admin.transfer``), and what a line says (``cli_device_lines``, which is loaded for these commands alone: it
needs all of the API).
"""

from __future__ import annotations

import asyncio
import csv
import os
import stat
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import click

from broker.accounts.directory import DEFAULT_NAME
from broker.cli_ask import Ask, asking
from broker.cli_common import FAILED, config_option, data_dir_option, told_in_one_line
from broker.config import Flags, load_config
from broker.errors import BadRequest

LOGIN_COLUMNS = ("device_id", "username", "password")
PAGE_DEVICES = 100
OTHERS_MAY = stat.S_IRWXG | stat.S_IRWXO


@click.group("devices", short_help="Many devices, as CSV.")
def devices_group() -> None:
    """Devices as CSV, of a running broker or of its data directory."""


account_option = click.option("--account", default=DEFAULT_NAME, show_default=True, help="Whose devices they are.")


@devices_group.command("import", short_help="Register the devices of a CSV file.")
@click.argument("source", metavar="FILE", type=click.Path(dir_okay=False, exists=True, path_type=Path))
@account_option
@click.option(
    "--credentials",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write logins to the end of this file, for its owner alone; else to standard output.",
)
@click.option("--rotate", is_flag=True, help="Give devices that are there already new passwords.")
@config_option
@data_dir_option
@told_in_one_line
def import_command(
    source: Path, account: str, credentials: Path | None, rotate: bool, file: Path | None, data_dir: Path | None
) -> None:
    """Register the devices of the CSV file FILE, and write their logins as CSV.

    Columns: name, and where wanted device_id, type, description, metadata (a JSON object), status,
    certificate_fingerprint, username and password. A password of the file is not written again. Who runs it again
    registers what is not there yet, by device_id.
    """
    config = load_config(file, os.environ, Flags(data_dir=data_dir))

    async def whole() -> Counter[str]:
        with ExitStack() as stack:
            out = None if credentials is None else stack.enter_context(_private(credentials))
            lines = stack.enter_context(source.open(encoding="utf-8-sig", newline=""))
            async with asking(config) as ask:
                return await _import(ask, account, lines, _Logins(out), rotate=rotate)

    done = asyncio.run(whole())
    told = ", ".join(f"{done[word]} {word}" for word in ("created", "rotated", "there", "refused") if done[word])
    click.echo(f"{source}: {told or 'no devices'}", err=True)
    if done["refused"]:
        sys.exit(FAILED)


@devices_group.command("export", short_help="Write an account's devices as CSV.")
@account_option
@config_option
@data_dir_option
@told_in_one_line
def export_command(account: str, file: Path | None, data_dir: Path | None) -> None:
    """Write an account's devices as CSV to standard output, oldest first, as `import` takes them; no passwords."""
    config = load_config(file, os.environ, Flags(data_dir=data_dir))

    from broker.cli_device_lines import COLUMNS

    async def whole() -> None:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        after: int | None = 0
        async with asking(config) as ask:
            while after is not None:
                page = await ask("devices.export", {"account": account, "after": after, "limit": PAGE_DEVICES})
                if after == 0:  # who is refused gets no table
                    writer.writerow(COLUMNS)
                writer.writerows(map(_row, page["devices"]))
                after = page["next"]

    asyncio.run(whole())


# ---------------------------------------------------------------- devices into a broker


class _Logins:
    """Where logins go, each page before the next is asked for: what is written is not lost to a crash."""

    def __init__(self, file: IO[str] | None) -> None:
        """``file`` is None for standard output."""
        self._file = file
        self._writer = csv.writer(file or sys.stdout, lineterminator="\n")
        self._begun = file is not None and file.tell() > 0

    def write(self, answers: list[dict[str, Any]]) -> None:
        """Write the logins of a page."""
        if not self._begun:
            self._writer.writerow(LOGIN_COLUMNS)
            self._begun = True
        for one in answers:
            if "password" in one:
                self._writer.writerow([one[name] for name in LOGIN_COLUMNS])
        (self._file or sys.stdout).flush()
        if self._file is not None:
            os.fsync(self._file.fileno())


async def _import(ask: Ask, account: str, lines: IO[str], logins: _Logins, *, rotate: bool) -> Counter[str]:
    """Import a file page by page; gives how often each outcome was."""
    from broker.cli_device_lines import pages, read

    done: Counter[str] = Counter()
    refused: list[tuple[int, str]] = []
    for page in pages(read(lines, refused)):
        devices = [device for _, device in page]
        answers = await ask("devices.import", {"account": account, "devices": devices, "rotate": rotate})
        logins.write(answers)
        for (number, _), answer in zip(page, answers, strict=True):
            done[answer["outcome"]] += 1
            if answer["outcome"] == "refused":
                refused.append((number, answer["message"]))
        done["refused"] += _tell(refused, among=answers)
    done["refused"] += _tell(refused, among=[])
    return done


def _tell(refused: list[tuple[int, str]], among: list[dict[str, Any]]) -> int:
    """Say which lines were refused; gives how many of them nobody has counted."""
    for number, message in sorted(refused):
        click.echo(f"line {number}: {message}", err=True)
    counted = [one for one in among if one["outcome"] == "refused"]
    uncounted = len(refused) - len(counted)
    refused.clear()
    return uncounted


def _private(path: Path) -> IO[str]:
    """Open a file for logins at its end; a new one is its owner's alone. Raises ``BadRequest`` for one that is not."""
    opened = os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600), "a", newline="")
    found = os.fstat(opened.fileno())
    if found.st_mode & OTHERS_MAY or not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
        opened.close()
        raise BadRequest(f"{path}: logins are written to a file of mode 0600 that is your own")
    return opened


# ---------------------------------------------------------------- devices out of a broker


def _row(device: dict[str, Any]) -> list[str]:
    return [
        device["device_id"],
        device["name"],
        device["device_type"],
        device["description"],
        "" if device["metadata_json"] == "{}" else device["metadata_json"],
        "active" if device["active"] else "inactive",
        device["certificate_fingerprint"],
    ]
