"""HTTPS of embedded brokers: each with an authority of its own, none in the way of another, nothing left behind."""

from __future__ import annotations

import ssl
from pathlib import Path

import httpx
import pytest

from broker import Broker, BrokerConfig
from broker.errors import BrokerStopped, NotFound
from tests.integration.embedded import LOOPS, NewLoop, config, in_thread, run
from tests.support import pki


def health(url: str, authority: Path) -> int:
    context = ssl.create_default_context(cafile=authority)
    return httpx.get(url + "/healthz", verify=context, trust_env=False).status_code


@LOOPS
def test_two_brokers_in_one_process_have_certificates_of_their_own(tmp_path: Path, new_loop: NewLoop) -> None:
    async def body() -> None:
        async with Broker(config(tmp_path / "a")) as one, Broker(config(tmp_path / "b")) as other:
            assert one.authority is not None
            assert other.authority is not None
            assert one.authority.fingerprint != other.authority.fingerprint
            assert one.endpoint("https").host == "127.0.0.1"  # as all of its listeners
            for broker, trust in ((one, one.authority), (other, other.authority)):
                assert await in_thread(lambda url=broker.https_url, file=trust.file: health(url, file)) == 200
            with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
                await in_thread(lambda: health(one.https_url, other.authority.file))
            assert await one.reload_certificates()

    run(new_loop, body)


@LOOPS
def test_a_program_exchanges_certificates_when_it_likes(tmp_path: Path, new_loop: NewLoop) -> None:
    root = pki.authority()
    (tmp_path / "root.pem").write_bytes(root.pem)
    certificate, key = pki.issue("first", by=root).write(tmp_path)
    plain = config(tmp_path / "data").model_dump()
    plain["https"] |= {"certificate_file": certificate, "private_key_file": key}

    async def body() -> None:
        async with Broker(BrokerConfig.model_validate(plain)) as broker:
            url = broker.https_url.replace("127.0.0.1", "localhost")
            pki.issue("second", by=root).write(tmp_path)
            assert await broker.reload_certificates()
            assert await in_thread(lambda: health(url, tmp_path / "root.pem")) == 200
            key.write_text("junk")
            assert not await broker.reload_certificates()
            assert await in_thread(lambda: health(url, tmp_path / "root.pem")) == 200
            assert broker.admin.degraded_because.startswith("certificate_refused: https: ")
            assert broker.authority is None

    run(new_loop, body)


@LOOPS
def test_a_broker_that_does_not_run_has_no_certificates(tmp_path: Path, new_loop: NewLoop) -> None:
    async def body() -> None:
        broker = Broker(config(tmp_path))
        for _ in range(2):
            assert broker.authority is None
            with pytest.raises(BrokerStopped):
                await broker.reload_certificates()
            with pytest.raises(NotFound):
                assert broker.https_url
            async with broker:
                assert broker.https_url

    run(new_loop, body)
