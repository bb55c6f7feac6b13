"""The commands that look after what is on disk: ``iot-broker backup``, ``restore`` and ``store``.

Here belong their arguments, their words, and the choice between a running broker and the data directory itself. Not
here: how it is done (``broker.storage``, ``broker.admin.upkeep``).
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import click

from broker import control
from broker.admin.upkeep import figures
from broker.cli_common import FAILED, config_option, data_dir_option, folder_path, print_table, told_in_one_line
from broker.config import BrokerConfig, Flags, load_config
from broker.errors import StoreError
from broker.storage import backup as backups
from broker.storage.data_dir import DataDir
from broker.storage.datafile import DATA_FILE
from broker.storage.pages import examine
from broker.storage.rescue import STORE, acknowledge, finish_moves, look, stored_format

LONG_S = 24 * 3600.0  # a copy takes as long as it takes


@click.command("backup", short_help="Copy store, secret and certificates.")
@click.argument("destination", metavar="DIR", type=folder_path)
@config_option
@data_dir_option
@told_in_one_line
def backup_command(destination: Path, file: Path | None, data_dir: Path | None) -> None:
    """Make a backup in the new folder DIR, while the broker runs or not.

    It holds the secret and the private keys: whoever can read it can check passwords, and pretend to be this broker.
    """
    config = load_config(file, os.environ, Flags(data_dir=data_dir))
    destination = destination.resolve()  # a folder is renamed over what is there, which must not be a link
    gathering = backups.begin(destination)
    try:
        configuration = _copy_store(config, gathering / "store")
        backups.copy_certificates(config.data_dir, gathering)
        manifest = backups.finish(gathering, destination, backups.read_secret(config.data_dir), configuration)
    except BaseException:
        shutil.rmtree(gathering, ignore_errors=True)
        raise
    stored = manifest["files"][backups.STORE_FILE]["bytes"]
    click.echo(f"the backup is in {destination}: {sum(manifest['entries'].values())} entries, {stored} bytes", err=True)


def _copy_store(config: BrokerConfig, folder: Path) -> dict[str, Any]:
    """Copy the store, compacted; gives the configuration in effect."""
    configuration = _ask_running(config, "store.copy", {"folder": str(folder.absolute())})
    if configuration is not None:
        return dict(configuration)
    with _owned(config) as owned:
        backups.copy_store(owned.store_path, folder)
    return config.model_dump(mode="json")


@click.command("restore", short_help="Put a backup into a data directory.")
@click.argument("backup", metavar="DIR", type=folder_path)
@click.option("--force", is_flag=True, help="Move what is in the data directory aside first.")
@config_option
@data_dir_option
@told_in_one_line
def restore_command(backup: Path, force: bool, file: Path | None, data_dir: Path | None) -> None:
    """Put the backup in DIR into an empty data directory in which no broker runs."""
    config = load_config(file, os.environ, Flags(data_dir=data_dir))
    manifest = backups.restore(
        backup,
        config.data_dir,
        force=force,
        set_aside=lambda aside: click.echo(f"what was there is in {aside}", err=True),
    )
    click.echo(f"the backup of {manifest['made_at']} is in {config.data_dir}", err=True)


@click.group("store", short_help="Look at what is on disk.")
def store_group() -> None:
    """Look at what is on disk, of a running broker or of its data directory."""


@store_group.command("check", short_help="Check every page and record.")
@click.option("--backup", type=folder_path, metavar="DIR", help="Check this backup, with its manifest, instead.")
@config_option
@data_dir_option
@told_in_one_line
def check_command(backup: Path | None, file: Path | None, data_dir: Path | None) -> None:
    """Check every page; where no broker runs, every record as well. Exit code 1, and a line each, for findings."""
    config = load_config(file, os.environ, Flags(data_dir=data_dir))
    if backup is not None:
        backups.verify_backup(backup)
        findings = [str(one) for one in look(backup / backups.STORE_FILE, records=True, run_seconds=0)]
        where, what = str(backup), "pages, records and checksums"
    else:
        where, what = str(config.data_dir / STORE), "pages"
        told = _ask_running(config, "store.check", {})
        if told is None:
            what = "pages and records"
            with _owned(config) as owned:
                told = [str(one) for one in look(_data_file(owned), records=True, run_seconds=0)]
        findings = told
    for finding in findings:
        click.echo(finding)
    click.echo(f"{where}: {len(findings) or 'no'} findings ({what} were checked)", err=True)
    if findings:
        sys.exit(FAILED)


@store_group.command("stats", short_help="Tell what the store holds and takes.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@config_option
@data_dir_option
@told_in_one_line
def stats_command(as_json: bool, file: Path | None, data_dir: Path | None) -> None:
    """Tell what the store holds and how much of its budget it takes."""
    config = load_config(file, os.environ, Flags(data_dir=data_dir))
    told = _ask_running(config, "store.stats", {})
    if told is None:
        with _owned(config) as owned:
            path = _data_file(owned)
            told = figures(examine(path), stored_format(path), config.store_map_size_bytes)
    if as_json:
        click.echo(json.dumps(told, indent=2))
        return
    click.echo(f"format {told['format']}, {told['page_bytes']} bytes a page")
    click.echo(f"budget {told['budget_bytes']} bytes, used {told['used_bytes']}, free in the file {told['free_bytes']}")
    click.echo(f"pages  {told['used_pages']} used, {told['free_pages']} free\n")
    rows = [{"table": name, **table} for name, table in sorted(told["tables"].items())]
    print_table(("table", "entries", "entry_bytes", "bytes", "pages", "depth"), rows)
    if told["findings"]:
        click.echo(f"\n{told['findings']} findings: see `iot-broker store check`", err=True)


@store_group.command("acknowledge", short_help="End the alarm of a damaged store.")
@config_option
@data_dir_option
@told_in_one_line
def acknowledge_command(file: Path | None, data_dir: Path | None) -> None:
    """Say that the rescue of a damaged store is known, so that the alarm ends."""
    config = load_config(file, os.environ, Flags(data_dir=data_dir))
    known = _ask_running(config, "store.acknowledge", {})
    if known is None:
        with _owned(config) as owned:
            known = acknowledge(owned.path)
    click.echo("the alarm has ended" if known else "there was nothing to acknowledge", err=True)


def _ask_running(config: BrokerConfig, command: str, arguments: dict[str, Any]) -> Any | None:
    """Ask the running broker; None when none is running."""
    try:
        return asyncio.run(control.call(config.data_dir, command, arguments))
    except (FileNotFoundError, ConnectionRefusedError):
        return None


def _owned(config: BrokerConfig) -> DataDir:
    """Become the owner of a data directory that is there, with what a crash has interrupted in it finished."""
    if not config.data_dir.exists():
        raise StoreError(f"there is no data directory {config.data_dir}; --data-dir says where it is")
    owned = DataDir.claim(config.data_dir)
    try:
        finish_moves(owned.path)
    except BaseException:
        owned.release()
        raise
    return owned


def _data_file(owned: DataDir) -> Path:
    path = owned.store_path / DATA_FILE
    if not path.exists():
        raise StoreError(f"there is no store in {owned.store_path}")
    return path
