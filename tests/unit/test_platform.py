"""What a start says of a configuration that can be used, and does not do what it seems to."""

from __future__ import annotations

import asyncio
import io
import json

from broker.assembly.platform import warn_of_missing_accounts
from broker.doors import ListenerConfig
from broker.observability import logs
from tests.upper import NOW_S, Upper


def listener(name: str, account: str) -> ListenerConfig:
    asks = {"transport": "tls", "client_certificate": "required", "client_ca_file": "ca.pem"}
    return ListenerConfig.model_validate({"name": name, **asks, "certificate_account": account})


def test_a_listener_for_an_account_that_is_not_there_is_told_of() -> None:
    out = io.StringIO()
    logs.configure("info", "json", out)
    upper = Upper()

    async def body() -> None:
        await upper.directory.accounts.create("acme", NOW_S)
        listeners = [listener("a", "acmee"), listener("b", "acme"), listener("c", "")]
        warn_of_missing_accounts(listeners, upper.directory.accounts)

    asyncio.run(body())
    (told,) = (json.loads(line) for line in out.getvalue().splitlines())
    assert (told["level"], told["listener"], told["certificate_account"]) == ("warning", "a", "acmee")
