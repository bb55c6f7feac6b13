"""What the commands of every file share: exit codes, options, refusals in one line, tables.

Not here: any command.
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, NoReturn, ParamSpec

import click

from broker.accounts.moments import moment_text, parse_moment
from broker.errors import BrokerError, ConfigError, StoreDamaged

P = ParamSpec("P")

FAILED = 1
UNUSABLE = 2
DAMAGED = 3


def told_in_one_line(command: Callable[P, None]) -> Callable[P, None]:
    """Turn the errors that people cause, and damaged stores, into one line and an exit code."""

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except ConfigError as error:
            _give_up(error, UNUSABLE)
        except StoreDamaged as error:
            _give_up(error, DAMAGED)
        except BrokenPipeError as error:
            _hang_up(error)
        except (BrokerError, OSError) as error:
            _give_up(error, FAILED)

    return wrapped


def _give_up(error: Exception, code: int) -> NoReturn:
    words = str(error)
    if isinstance(error, OSError) and error.filename and error.strerror:
        words = f"{error.filename}: {error.strerror}"  # Python's own words begin with a number
    click.echo(f"iot-broker: {words}", err=True)
    sys.exit(code)


def _hang_up(error: Exception) -> NoReturn:
    """End quietly where whoever reads the output (``head``) has seen enough; what is buffered goes nowhere."""
    output = select.poll()
    output.register(sys.stdout, 0)
    if not any(state & select.POLLERR for _, state in output.poll(0)):
        _give_up(error, FAILED)
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(FAILED)


_file = click.Path(dir_okay=False, path_type=Path)
folder_path = click.Path(file_okay=False, path_type=Path)

config_option = click.option(
    "--config", "file", type=_file, metavar="FILE", envvar="IOT_BROKER_CONFIG", help="Read this TOML file."
)
data_dir_option = click.option("--data-dir", type=folder_path, metavar="DIR", help="Where everything lives (./data).")


class MomentType(click.ParamType[int]):
    """A moment in UTC; becomes seconds since 1970."""

    name = "moment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read what somebody typed."""
        try:
            return value if isinstance(value, int) else parse_moment(value)
        except ValueError as error:
            self.fail(f"{value!r} is not {error}", param, ctx)


def print_table(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows under their columns' names; ``_at`` is a time."""
    texts = [[_cell(name, row[name]) for name in columns] for row in rows]
    heads = [name.removesuffix("_at").replace("_", " ") for name in columns]
    widths = [max(len(line[number]) for line in [heads, *texts]) for number in range(len(columns))]
    for line in [heads, *texts]:
        click.echo("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def _cell(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if name.endswith("_at"):
        return moment_text(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
