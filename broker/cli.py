"""The command line: ``iot-broker serve`` and ``check-config``, and where all other commands are gathered.

Here belong starting a broker and the words of its start. Not here: the commands about keys (``cli_keys``), accounts
(``cli_accounts``), many devices (``cli_devices``) and what is on disk (``cli_store``). Exit codes: 0, 1 when something
failed, 2 when the arguments or the configuration cannot be used, 3 when the store is damaged.
"""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from broker.accounts.directory import DEFAULT_NAME
from broker.cli_accounts import accounts_group
from broker.cli_common import config_option, data_dir_option, told_in_one_line
from broker.cli_devices import devices_group
from broker.cli_keys import admin_keys_group, keys_group
from broker.cli_store import backup_command, restore_command, store_group
from broker.config import BrokerConfig, Flags, load_config
from broker.doors import Endpoint, authority, is_loopback
from broker.observability import logs

if TYPE_CHECKING:
    from broker.net.certificates import Authority

_port = click.IntRange(0, 65_535)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="iot-broker", message="iot-broker %(version)s")
def main() -> None:
    """Run and look after an MQTT broker and device platform."""


main.add_command(backup_command)
main.add_command(devices_group)
main.add_command(restore_command)
main.add_command(store_group)
main.add_command(keys_group)
main.add_command(admin_keys_group)
main.add_command(accounts_group)


@main.command()
@config_option
@data_dir_option
@click.option("--host", metavar="H", help="Listen on this address, MQTT and HTTP.")
@click.option(
    "--mqtt-port", type=_port, metavar="N", help="Port of the first listener for TCP (1883); 0 picks a free one."
)
@click.option("--mqtts-port", type=_port, metavar="N", help="Port of the first listener for TLS (8883).")
@click.option("--ws-port", type=_port, metavar="N", help="Port of the first listener for WebSockets (8083).")
@click.option("--wss-port", type=_port, metavar="N", help="Port of the first listener for WebSockets over TLS (8084).")
@click.option("--http-port", type=_port, metavar="N", help="Port of the REST API (8080); 0 picks a free one.")
@click.option("--https-port", type=_port, metavar="N", help="Port of the REST API over TLS (8443).")
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
        gc.freeze()  # what was loaded stays: to look for garbage in 100,000 devices holds the loop for 0.1 s
        click.echo(banner(config, broker.endpoints, broker.first_key, broker.authority))
        await broker.run_until_signal()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Use uvloop where it is installed."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


@main.command("check-config", short_help="Judge file, environment and certificates.")
@config_option
@told_in_one_line
def check_config(file: Path | None) -> None:
    """Judge file, environment and certificates; exit code 2 and one line when they cannot be used.

    Nothing is started. Certificates, keys, authorities and revocation lists that are configured are read as at a
    start, so that whoever runs this has to be able to read them.
    """
    from broker.net.certificates.configured import judge_configured  # certificates are loaded for those who judge them

    config = load_config(file, os.environ)
    for doubt in judge_configured(config, datetime.now(UTC)):
        click.echo(f"iot-broker: {doubt}", err=True)
    places = [f"{one.name} on {one.address}" for one in config.listeners]
    places.append(f"http on {authority(config.http.host, config.http.port)}")
    places += [f"https on {authority(config.https.host, config.https.port)}"] if config.https.enabled else []
    click.echo(f"the configuration can be used: {', '.join(places)}")


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
