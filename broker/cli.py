"""The command line: ``iot-broker serve``, ``check-config``, ``keys`` and ``accounts``.

Here belong commands, their arguments and the words they print. Not here: what they do, and the commands about what is
on disk (``cli_store``) and about many devices (``cli_devices``). Exit codes: 0, 1 when something failed, 2 when the
arguments or the configuration cannot be used, 3 when the store is damaged.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from broker.accounts.accounts import DURABILITIES, POLICIES
from broker.accounts.directory import DEFAULT_NAME
from broker.accounts.plans import DEFAULT_PLAN, PLANS
from broker.cli_ask import ask
from broker.cli_common import config_option, data_dir_option, print_table, told_in_one_line
from broker.cli_devices import devices_group
from broker.cli_store import backup_command, restore_command, store_group
from broker.config import BrokerConfig, Flags, load_config
from broker.doors import Endpoint, authority, is_loopback
from broker.observability import logs

if TYPE_CHECKING:
    from broker.net.certificates import Authority

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

_port = click.IntRange(0, 65_535)


@click.group()
@click.version_option(package_name="iot-broker", message="iot-broker %(version)s")
def main() -> None:
    """Run and look after an MQTT broker and device platform."""


main.add_command(backup_command)
main.add_command(devices_group)
main.add_command(restore_command)
main.add_command(store_group)


@main.command()
@config_option
@data_dir_option
@click.option("--host", metavar="H", help="Listen on this address, MQTT and HTTP.")
@click.option("--mqtt-port", type=_port, metavar="N", help="Port of the first listener for TCP; 0 picks a free one.")
@click.option("--mqtts-port", type=_port, metavar="N", help="Port of the first listener for TLS.")
@click.option("--ws-port", type=_port, metavar="N", help="Port of the first listener for WebSockets.")
@click.option("--wss-port", type=_port, metavar="N", help="Port of the first listener for WebSockets over TLS.")
@click.option("--http-port", type=_port, metavar="N", help="Port of the REST API; 0 picks a free one.")
@click.option("--https-port", type=_port, metavar="N", help="Port of the REST API over TLS.")
@click.option("--strict", is_flag=True, help="Refuse to start with a damaged store (exit code 3).")
@click.option("--open", "open_mode", is_flag=True, help="Let anyone do anything, on loopback only.")
@told_in_one_line
def serve(file: Path | None, **flags: Any) -> None:
    """Start the broker and run it until SIGINT or SIGTERM."""
    config = load_config(file, os.environ, Flags(**flags))
    logs.configure(config.log_level, config.log_format)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(config))


async def _serve(config: BrokerConfig) -> None:
    from broker.runtime import Broker  # the native core is loaded for serving alone

    async with Broker(config) as broker:
        click.echo(banner(config, broker.endpoints, broker.first_key, broker.authority))
        await broker.run_until_signal()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Use uvloop where it is installed."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


@main.command("check-config")
@config_option
@told_in_one_line
def check_config(file: Path | None) -> None:
    """Judge file and environment without starting anything; exit code 2 and one line when they cannot be used."""
    config = load_config(file, os.environ)
    places = [f"{one.name} on {one.address}" for one in config.listeners]
    places.append(f"http on {authority(config.http.host, config.http.port)}")
    places += [f"https on {authority(config.https.host, config.https.port)}"] if config.https.enabled else []
    click.echo(f"the configuration can be used: {', '.join(places)}")


@main.group()
def keys() -> None:
    """API keys, of a running broker or of its data directory."""


@keys.command("create")
@click.argument("name")
@click.option("--account", default=DEFAULT_NAME, show_default=True, help="The account it acts for.")
@config_option
@data_dir_option
@told_in_one_line
def create_key(name: str, account: str, file: Path | None, data_dir: Path | None) -> None:
    """Make an API key and print it alone on standard output: it cannot be shown again."""
    made = ask(file, data_dir, "keys.create", {"account": account, "name": name})
    click.echo(f"key {made['key_id']} {name!r} of account {account!r}, shown this once:", err=True)
    click.echo(made["api_key"])


@keys.command("list")
@click.option("--account", default=None, help="Only this account's keys.")
@config_option
@data_dir_option
@told_in_one_line
def list_keys(account: str | None, file: Path | None, data_dir: Path | None) -> None:
    """List API keys, revoked ones too; never their text."""
    rows = ask(file, data_dir, "keys.list", {"account": account})
    print_table(("key_id", "account", "name", "created_at", "last_used_at", "revoked_at"), rows)


@keys.command("revoke")
@click.argument("key_id", type=int)
@config_option
@data_dir_option
@told_in_one_line
def revoke_key(key_id: int, file: Path | None, data_dir: Path | None) -> None:
    """Make an API key invalid and cut the connections that came in with it; devices stay."""
    revoked = ask(file, data_dir, "keys.revoke", {"key_id": key_id})
    click.echo(f"key {key_id} {revoked['name']!r} of account {revoked['account']!r} is revoked", err=True)


@main.group()
def accounts() -> None:
    """Accounts, of a running broker or of its data directory."""


@accounts.command("create")
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


@accounts.command("list")
@config_option
@data_dir_option
@told_in_one_line
def list_accounts(file: Path | None, data_dir: Path | None) -> None:
    """List the accounts."""
    rows = ask(file, data_dir, "accounts.list", {})
    print_table(ACCOUNT_COLUMNS, rows)


@accounts.command("set-plan")
@click.argument("name")
@click.argument("plan", type=click.Choice(list(PLANS)))
@config_option
@data_dir_option
@told_in_one_line
def set_plan(name: str, plan: str, file: Path | None, data_dir: Path | None) -> None:
    """Put an account on another plan; what it has above the new limits stays."""
    ask(file, data_dir, "accounts.set-plan", {"name": name, "plan": plan})
    click.echo(f"account {name!r} is on plan {plan!r}", err=True)


@accounts.command("set-durability")
@click.argument("name")
@click.argument("level", type=click.Choice(DURABILITIES))
@config_option
@data_dir_option
@told_in_one_line
def set_durability(name: str, level: str, file: Path | None, data_dir: Path | None) -> None:
    """Choose what an account's clients are promised from their next CONNECT on."""
    ask(file, data_dir, "accounts.set-durability", {"name": name, "durability": level})
    click.echo(f"account {name!r} is at level {level!r}", err=True)


@accounts.command("set-queue-full-policy")
@click.argument("name")
@click.argument("policy", type=click.Choice(POLICIES))
@config_option
@data_dir_option
@told_in_one_line
def set_queue_full_policy(name: str, policy: str, file: Path | None, data_dir: Path | None) -> None:
    """Choose what happens to a message for a session of an account that has no room for it."""
    ask(file, data_dir, "accounts.set-queue-full-policy", {"name": name, "policy": policy})
    click.echo(f"full queues of account {name!r}: {policy!r}", err=True)


@accounts.command("suspend")
@click.argument("name")
@config_option
@data_dir_option
@told_in_one_line
def suspend_account(name: str, file: Path | None, data_dir: Path | None) -> None:
    """Cut and refuse an account's devices, applications and requests."""
    ask(file, data_dir, "accounts.set-suspended", {"name": name, "suspended": True})
    click.echo(f"account {name!r} is suspended", err=True)


@accounts.command("resume")
@click.argument("name")
@config_option
@data_dir_option
@told_in_one_line
def resume_account(name: str, file: Path | None, data_dir: Path | None) -> None:
    """Let a suspended account back in."""
    ask(file, data_dir, "accounts.set-suspended", {"name": name, "suspended": False})
    click.echo(f"account {name!r} is back", err=True)


def banner(
    config: BrokerConfig, endpoints: Sequence[Endpoint], first_key: str | None, trust: Authority | None = None
) -> str:
    """Say where each port listens and whom clients have to trust.

    On the first start also the key, and the curl line that registers a device.
    """
    lines = [f"iot-broker {version('iot-broker')} is ready; its data is in {config.data_dir}"]
    lines += [f"  {one.name:<8} {one.protocol:<6} {_place(one)}" for one in endpoints]
    if trust is not None:
        lines += [f"clients trust {trust.file}, whose SHA-256 is", f"  {trust.fingerprint}"]
    http = next((one for one in endpoints if one.protocol == "http"), None)
    if first_key is not None:
        lines += ["", f"First start: account {DEFAULT_NAME!r} has this API key, shown this once:", "", f"  {first_key}"]
    if first_key is not None and http is not None:
        lines += ["", "Register a device:", "", _curl_line(http, first_key)]
    return "\n".join(lines)


def _place(endpoint: Endpoint) -> str:
    return endpoint.unix_path or authority(endpoint.host, endpoint.port)


def _curl_line(http: Endpoint, api_key: str) -> str:
    host = http.host if is_loopback(http.host) or http.host not in {"0.0.0.0", "::", ""} else "127.0.0.1"  # noqa: S104
    return (
        f"  curl -X POST http://{authority(host, http.port)}/v1/iot/devices"
        f' -H "Authorization: Bearer {api_key}" -H "Content-Type: application/json"'
        """ -d '{"name": "Temperature Sensor 01", "type": "sensor"}'"""
    )
