"""The command line's ``keys`` and ``admin-keys``.

Here belong the commands, their arguments and the words they print. Not here: what they do (``broker.admin``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from broker.accounts.directory import DEFAULT_NAME
from broker.cli_ask import ask
from broker.cli_common import MomentType, config_option, data_dir_option, print_table, told_in_one_line
from broker.policy.key_rights import SCOPES

KEY_COLUMNS = (
    "key_id",
    "account",
    "name",
    "scopes",
    "topics",
    "expires_at",
    "created_at",
    "last_used_at",
    "revoked_at",
)


ADMIN_KEY_COLUMNS = ("key_id", "name", "expires_at", "created_at", "last_used_at", "revoked_at")

expires_option = click.option(
    "--expires-at", type=MomentType(), default=None, help="When it ends, such as 2030-01-31T12:00:00Z."
)


@click.group("keys", short_help="API keys of accounts.")
def keys_group() -> None:
    """API keys, of a running broker or of its data directory."""


@keys_group.command("create", short_help="Make an API key and print it, once.")
@click.argument("name")
@click.option("--account", default=DEFAULT_NAME, show_default=True, help="The account it acts for.")
@click.option("--scope", "scopes", type=click.Choice(SCOPES), multiple=True, help="Only this; may be repeated.")
@click.option(
    "--topic", "patterns", metavar="FILTER", multiple=True, help="Only messages of such topics; may be repeated."
)
@expires_option
@config_option
@data_dir_option
@told_in_one_line
def create_key(
    name: str,
    account: str,
    scopes: tuple[str, ...],
    patterns: tuple[str, ...],
    expires_at: int | None,
    file: Path | None,
    data_dir: Path | None,
) -> None:
    """Make an API key and print it alone on standard output: it cannot be shown again.

    Without scopes it may do everything in its account. All valid keys of one name have the same rights.
    """
    wanted = {"scopes": scopes or None, "patterns": patterns, "expires_at": expires_at}
    made = ask(file, data_dir, "keys.create", {"account": account, "name": name, **wanted})
    click.echo(f"key {made['key_id']} {name!r} of account {account!r}, shown this once:", err=True)
    click.echo(made["api_key"])


@keys_group.command("list", short_help="List API keys, ended ones too.")
@click.option("--account", default=None, help="Only this account's keys.")
@config_option
@data_dir_option
@told_in_one_line
def list_keys(account: str | None, file: Path | None, data_dir: Path | None) -> None:
    """List API keys, ended ones too; never their text."""
    rows = ask(file, data_dir, "keys.list", {"account": account})
    print_table(KEY_COLUMNS, [_in_words(row) for row in rows])


@keys_group.command("revoke", short_help="End an API key and cut who came in by it.")
@click.argument("key_id", type=int)
@config_option
@data_dir_option
@told_in_one_line
def revoke_key(key_id: int, file: Path | None, data_dir: Path | None) -> None:
    """Make an API key invalid and cut the connections that came in with it; devices stay."""
    revoked = ask(file, data_dir, "keys.revoke", {"key_id": key_id})
    click.echo(f"key {key_id} {revoked['name']!r} of account {revoked['account']!r} is revoked", err=True)


@click.group("admin-keys", short_help="Admin keys, which open /v1/admin over HTTP.")
def admin_keys_group() -> None:
    """Admin keys, which open /v1/admin over HTTP, of a running broker or of its data directory."""


@admin_keys_group.command("create", short_help="Make an admin key and print it, once.")
@click.argument("name")
@expires_option
@config_option
@data_dir_option
@told_in_one_line
def create_admin_key(name: str, expires_at: int | None, file: Path | None, data_dir: Path | None) -> None:
    """Make an admin key and print it alone on standard output: it cannot be shown again. Nothing else can make one."""
    made = ask(file, data_dir, "admin-keys.create", {"name": name, "expires_at": expires_at})
    click.echo(f"admin key {made['key_id']} {name!r}, shown this once:", err=True)
    click.echo(made["admin_key"])


@admin_keys_group.command("list", short_help="List admin keys, ended ones too.")
@config_option
@data_dir_option
@told_in_one_line
def list_admin_keys(file: Path | None, data_dir: Path | None) -> None:
    """List admin keys, ended ones too; never their text."""
    print_table(ADMIN_KEY_COLUMNS, ask(file, data_dir, "admin-keys.list", {}))


@admin_keys_group.command("revoke")
@click.argument("key_id", type=int)
@config_option
@data_dir_option
@told_in_one_line
def revoke_admin_key(key_id: int, file: Path | None, data_dir: Path | None) -> None:
    """Make an admin key invalid."""
    revoked = ask(file, data_dir, "admin-keys.revoke", {"key_id": key_id})
    click.echo(f"admin key {key_id} {revoked['name']!r} is revoked", err=True)


def _in_words(row: dict[str, Any]) -> dict[str, Any]:
    """Give a key's rights as one word each; all of the account is said so."""
    scopes = "all" if len(row["scopes"]) == len(SCOPES) else ",".join(row["scopes"])
    return {**row, "scopes": scopes, "topics": ",".join(row["patterns"]) or "all"}
