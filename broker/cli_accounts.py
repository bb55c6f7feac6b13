"""The command line's ``accounts``.

Here belong the commands, their arguments and the words they print. Not here: what they do (``broker.admin``).
"""

from __future__ import annotations

from pathlib import Path

import click

from broker.accounts.accounts import DURABILITIES, POLICIES
from broker.accounts.plans import DEFAULT_PLAN, PLANS
from broker.cli_ask import ask
from broker.cli_common import config_option, data_dir_option, print_table, told_in_one_line

ACCOUNT_COLUMNS = (
    "account_id",
    "name",
    "plan",
    "durability",
    "queue_full_policy",
    "suspended",
    "devices",
    "messages_this_month",
    "bytes_this_month",
    "created_at",
)


@click.group("accounts")
def accounts_group() -> None:
    """Accounts, of a running broker or of its data directory."""


@accounts_group.command("create", short_help="Make an account with a topic space of its own.")
@click.argument("name")
@click.option("--plan", type=click.Choice(list(PLANS)), default=DEFAULT_PLAN, show_default=True)
@click.option("--durability", type=click.Choice(DURABILITIES), default=DURABILITIES[0], show_default=True)
@config_option
@data_dir_option
@told_in_one_line
def create_account(name: str, plan: str, durability: str, file: Path | None, data_dir: Path | None) -> None:
    """Make an account: a name, a plan, what its clients are promised, and a topic space of its own."""
    ask(file, data_dir, "accounts.create", {"name": name, "plan": plan, "durability": durability})
    click.echo(f"account {name!r} is there, on plan {plan!r}, its clients at level {durability!r}", err=True)


@accounts_group.command("list")
@config_option
@data_dir_option
@told_in_one_line
def list_accounts(file: Path | None, data_dir: Path | None) -> None:
    """List the accounts."""
    rows = ask(file, data_dir, "accounts.list", {})
    print_table(ACCOUNT_COLUMNS, rows)


@accounts_group.command("show")
@click.argument("name")
@config_option
@data_dir_option
@told_in_one_line
def show_account(name: str, file: Path | None, data_dir: Path | None) -> None:
    """Show one account."""
    print_table(ACCOUNT_COLUMNS, [ask(file, data_dir, "accounts.show", {"name": name})])


@accounts_group.command("set-plan", short_help="Put an account on another plan.")
@click.argument("name")
@click.argument("plan", type=click.Choice(list(PLANS)))
@config_option
@data_dir_option
@told_in_one_line
def set_plan(name: str, plan: str, file: Path | None, data_dir: Path | None) -> None:
    """Put an account on another plan; what it has above the new limits stays."""
    ask(file, data_dir, "accounts.set-plan", {"name": name, "plan": plan})
    click.echo(f"account {name!r} is on plan {plan!r}", err=True)


@accounts_group.command("set-durability", short_help="Choose what its clients are promised.")
@click.argument("name")
@click.argument("level", type=click.Choice(DURABILITIES))
@config_option
@data_dir_option
@told_in_one_line
def set_durability(name: str, level: str, file: Path | None, data_dir: Path | None) -> None:
    """Choose what an account's clients are promised from their next CONNECT on."""
    ask(file, data_dir, "accounts.set-durability", {"name": name, "durability": level})
    click.echo(f"account {name!r} is at level {level!r}", err=True)


@accounts_group.command("set-queue-full-policy", short_help="Choose what a full queue does.")
@click.argument("name")
@click.argument("policy", type=click.Choice(POLICIES))
@config_option
@data_dir_option
@told_in_one_line
def set_queue_full_policy(name: str, policy: str, file: Path | None, data_dir: Path | None) -> None:
    """Choose what happens to a message for a session of an account that has no room for it."""
    ask(file, data_dir, "accounts.set-queue-full-policy", {"name": name, "policy": policy})
    click.echo(f"full queues of account {name!r}: {policy!r}", err=True)


@accounts_group.command("suspend", short_help="Cut and refuse all that is an account's.")
@click.argument("name")
@config_option
@data_dir_option
@told_in_one_line
def suspend_account(name: str, file: Path | None, data_dir: Path | None) -> None:
    """Cut and refuse an account's devices, applications and requests."""
    ask(file, data_dir, "accounts.set-suspended", {"name": name, "suspended": True})
    click.echo(f"account {name!r} is suspended", err=True)


@accounts_group.command("resume")
@click.argument("name")
@config_option
@data_dir_option
@told_in_one_line
def resume_account(name: str, file: Path | None, data_dir: Path | None) -> None:
    """Let a suspended account back in."""
    ask(file, data_dir, "accounts.set-suspended", {"name": name, "suspended": False})
    click.echo(f"account {name!r} is back", err=True)
