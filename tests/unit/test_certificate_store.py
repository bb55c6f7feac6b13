"""The certificates in use: changed files are taken when they have come to rest and fit, broken ones never."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from broker.config import BrokerConfig
from broker.errors import ConfigError, StoreError
from broker.net.certificates import CertificateStore, MaterialFiles, OwnCertificates, TlsMaterial, open_certificates
from broker.net.certificates.store import PATIENCE_LOOKS
from broker.observability.alarms import Alarms
from broker.observability.logs import LogObserver
from tests.support import pki

NOW_S = int(datetime.now(UTC).timestamp())
DAY_S = 24 * 3600


class Bench:
    """A store of one listener on files in a folder, and what it has told."""

    def __init__(self, folder: Path, *names: str) -> None:
        self.folder = folder
        self.first = pki.issue("first")
        certificate, key = self.first.write(folder)
        self.alarms = Alarms(LogObserver())
        self.told: list[tuple[str, TlsMaterial]] = []
        files = dict.fromkeys(names or ("mqtts",), MaterialFiles(certificate, key))
        self.now_s = NOW_S
        self.store = CertificateStore(files, self.alarms, wall_s=lambda: self.now_s)
        self.store.on_change(lambda name, material: self.told.append((name, material)))

    async def look(self, times: int = 2) -> None:
        for _ in range(times):
            await self.store.look()

    @property
    def reloads(self) -> dict[str, int]:
        counts = self.store.figures()["reloads"]
        assert isinstance(counts, dict)
        return counts

    def uses(self, one: pki.Issued, name: str = "mqtts") -> bool:
        return self.store.material(name).certificate_chain_pem == one.pem


def run(body: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        await body()

    asyncio.run(whole())


def test_a_changed_pair_is_taken_once_it_has_come_to_rest(tmp_path: Path) -> None:
    bench, second = Bench(tmp_path), pki.issue("second")

    async def body() -> None:
        await bench.look(3)
        second.write(tmp_path)
        await bench.look(1)
        assert bench.uses(bench.first)  # it may not be whole yet
        await bench.look(1)
        assert bench.uses(second)
        await bench.look(3)

    run(body)
    assert [(name, material.certificate_chain_pem) for name, material in bench.told] == [("mqtts", second.pem)]
    assert bench.reloads == {"taken": 1, "refused": 0}
    assert bench.alarms.warnings() == []


def test_a_certificate_and_a_key_that_come_one_after_the_other_are_taken_together(tmp_path: Path) -> None:
    bench, second = Bench(tmp_path), pki.issue("second")

    async def body() -> None:
        pki.replace(tmp_path / "server.pem", second.pem)
        await bench.look(PATIENCE_LOOKS)  # the first look only sees the change
        assert bench.uses(bench.first)
        pki.replace(tmp_path / "server.key", second.key_pem)
        await bench.look()
        assert bench.uses(second)

    run(body)
    assert bench.reloads == {"taken": 1, "refused": 0}
    assert bench.alarms.figures() == {"now": 0, "raised": 0}


@pytest.mark.parametrize("how", ["junk", "gone", "mismatch"])
def test_a_broken_set_is_refused_once_with_an_alarm_and_the_old_one_stays(
    tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(tmp_path)
    file = tmp_path / "server.key"

    async def body() -> None:
        if how == "gone":
            file.unlink()
        else:
            file.write_bytes(b"junk" if how == "junk" else pki.issue("other").key_pem)
        await bench.look(3 * PATIENCE_LOOKS)
        (warning,) = bench.alarms.warnings()
        assert warning.startswith(f"certificate_refused: mqtts: {file}: ")
        assert bench.alarms.reasons() == []  # the broker is ready
        assert bench.uses(bench.first)
        bench.first.write(tmp_path)
        await bench.look()

    run(body)
    assert bench.told == []
    assert bench.reloads == {"taken": 0, "refused": 1}
    assert bench.alarms.warnings() == []
    (error,) = [one for one in caplog.records if one.levelno == logging.ERROR]
    assert "refused" in error.message


def test_reload_judges_at_once(tmp_path: Path) -> None:
    bench, second = Bench(tmp_path), pki.issue("second")

    async def body() -> None:
        second.write(tmp_path)
        assert await bench.store.reload()
        assert bench.uses(second)
        (tmp_path / "server.pem").write_bytes(b"junk")
        assert not await bench.store.reload()
        assert bench.uses(second)
        assert bench.alarms.warnings()
        await bench.look(3)
        assert bench.reloads == {"taken": 1, "refused": 1}
        second.write(tmp_path)
        assert await bench.store.reload()

    run(body)
    assert bench.alarms.warnings() == []


def test_files_that_are_only_touched_are_no_news(tmp_path: Path) -> None:
    bench = Bench(tmp_path)

    async def body() -> None:
        bench.first.write(tmp_path)
        await bench.look(3)
        assert await bench.store.reload()

    run(body)
    assert bench.told == []
    assert bench.reloads == {"taken": 0, "refused": 0}


def test_all_listeners_that_use_a_file_get_it_and_one_that_refuses_keeps_its_old_one(tmp_path: Path) -> None:
    bench, second = Bench(tmp_path, "mqtts", "wss"), pki.issue("second")

    def picky(name: str, _material: TlsMaterial) -> None:
        if name == "wss":
            raise ValueError("no cipher for it")

    bench.store.on_change(picky)

    async def body() -> None:
        second.write(tmp_path)
        await bench.look()
        assert bench.uses(second)
        assert bench.uses(bench.first, "wss")
        assert bench.alarms.warnings() == ["certificate_refused: wss: no cipher for it"]
        bench.first.write(tmp_path)
        await bench.look()

    run(body)
    assert bench.alarms.warnings() == []


def test_a_link_that_is_turned_is_a_change(tmp_path: Path) -> None:
    second = pki.issue("second")
    for name, one in (("1", pki.issue("first")), ("2", second)):
        (tmp_path / name).mkdir()
        one.write(tmp_path / name)
    (tmp_path / "live").symlink_to("1")
    files = MaterialFiles(tmp_path / "live" / "server.pem", tmp_path / "live" / "server.key")
    store = CertificateStore({"mqtts": files}, Alarms(LogObserver()), wall_s=lambda: NOW_S)

    async def body() -> None:
        (tmp_path / "new").symlink_to("2")
        (tmp_path / "new").rename(tmp_path / "live")
        await store.look()
        await store.look()

    run(body)
    assert store.material("mqtts").certificate_chain_pem == second.pem


def test_the_end_is_a_figure_and_21_days_before_a_warning(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    not_after = bench.store.material("mqtts").not_after

    async def body() -> None:
        assert bench.store.figures()["not_after"] == {"mqtts": not_after}
        await bench.look()
        assert bench.alarms.warnings() == []
        bench.now_s = not_after - 20 * DAY_S
        await bench.look()
        (warning,) = bench.alarms.warnings()
        assert warning.startswith("certificate_expiry: mqtts: the certificate ends on ")
        pki.issue("second", ends=datetime.fromtimestamp(not_after, UTC) + timedelta(days=90)).write(tmp_path)
        await bench.look()
        assert bench.alarms.warnings() == []

    run(body)


def test_what_cannot_be_used_at_the_start_is_an_error_of_the_configuration(tmp_path: Path) -> None:
    certificate, key = pki.issue("first").write(tmp_path)
    key.write_text("junk")
    with pytest.raises(ConfigError, match=r"server\.key: no private key"):
        CertificateStore({"mqtts": MaterialFiles(certificate, key)}, Alarms(LogObserver()), wall_s=lambda: NOW_S)


# ---------------------------------------------------------------- the broker's own


def opened(folder: Path, config: BrokerConfig, now_s: int = NOW_S, alarms: Alarms | None = None) -> CertificateStore:
    return open_certificates(config, folder / "tls", alarms or Alarms(LogObserver()), wall_s=lambda: now_s)


PLAIN: dict[str, Any] = {"listeners": [{"transport": "tcp"}]}


def test_own_certificates_are_made_where_they_are_needed_alone(tmp_path: Path) -> None:
    store = opened(tmp_path, BrokerConfig())
    assert store.authority is not None
    assert store.authority.file == tmp_path / "tls" / "ca.pem"
    assert store.authority.fingerprint.count(":") == 31
    assert "localhost" in store.material("https").names
    assert opened(tmp_path / "a", BrokerConfig.model_validate({**PLAIN, "https": {"enabled": False}})).authority is None
    assert not (tmp_path / "a").exists()
    certificate, key = pki.issue("mine").write(tmp_path)
    https = {"certificate_file": certificate, "private_key_file": key}
    store = opened(tmp_path / "b", BrokerConfig.model_validate({**PLAIN, "https": https}))
    assert (store.authority, (tmp_path / "b").exists()) == (None, False)


def test_a_due_renewal_is_made_and_taken_while_the_broker_runs(tmp_path: Path) -> None:
    now = [NOW_S]
    store = open_certificates(BrokerConfig(), tmp_path / "tls", Alarms(LogObserver()), wall_s=lambda: now[0])
    first = store.material("https")

    async def body() -> None:
        await store.renew()
        now[0] += 370 * DAY_S
        await store.renew()
        await store.look()
        await store.look()

    run(body)
    assert store.material("https").not_after == first.not_after + 370 * DAY_S


def test_renewals_at_once_are_one(tmp_path: Path) -> None:
    async def body() -> None:
        for number in range(20):
            now = [NOW_S]
            folder = tmp_path / str(number)
            store = open_certificates(BrokerConfig(), folder, Alarms(LogObserver()), wall_s=lambda now=now: now[0])  # type: ignore[misc]
            now[0] += 370 * DAY_S
            assert await asyncio.gather(*(store.reload() for _ in range(3))) == [True] * 3
            assert store.material("https").not_after > now[0] + 300 * DAY_S

    run(body)


def test_a_renewal_that_fails_is_told_and_what_is_there_stays(tmp_path: Path) -> None:
    opened(tmp_path, BrokerConfig())
    (tmp_path / "tls" / "ca.key").unlink()
    renamed = BrokerConfig.model_validate({"public_host": "new.example.org"})
    alarms = Alarms(LogObserver())
    store = opened(tmp_path, renamed, alarms=alarms)
    assert "new.example.org" not in store.material("https").names
    (warning,) = alarms.warnings()
    assert warning.startswith("certificate_refused: renewal: ")
    assert "ca.key: No such file or directory" in warning


def test_a_folder_that_cannot_be_made_is_an_error_of_the_store(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("no folder")
    with pytest.raises(StoreError, match="no certificate could be made in"):
        opened(tmp_path / "a", BrokerConfig())


def test_own_files_and_others_client_authorities_go_together(tmp_path: Path) -> None:
    own = OwnCertificates(tmp_path / "tls", ("localhost",))
    clients = pki.authority()
    (tmp_path / "clients.pem").write_bytes(clients.pem)
    files = MaterialFiles(own.files.certificate, own.files.private_key, tmp_path / "clients.pem")
    store = CertificateStore({"mqtts": files}, Alarms(LogObserver()), wall_s=lambda: NOW_S, own=own)
    assert store.material("mqtts").client_ca_pem == clients.pem


def test_all_that_is_encrypted_has_the_broker_s_own_unless_it_has_files(tmp_path: Path) -> None:
    store = opened(tmp_path, BrokerConfig())
    assert store.material("mqtts") == store.material("wss") == store.material("https")
    with pytest.raises(KeyError):
        store.material("ws")
    mine, clients = pki.issue("mine"), pki.authority()
    certificate, key = mine.write(tmp_path)
    (tmp_path / "clients.pem").write_bytes(clients.pem)
    (tmp_path / "crl.pem").write_bytes(pki.revoked(clients))
    files = {"certificate_file": certificate, "private_key_file": key}
    asks = {"client_certificate": "required", "client_ca_file": tmp_path / "clients.pem"}
    listeners = [{"transport": "tls", **files, **asks, "crl_file": tmp_path / "crl.pem"}, {"transport": "wss", **asks}]
    store = opened(tmp_path, BrokerConfig.model_validate({"listeners": listeners}))
    assert store.material("mqtts").certificate_chain_pem == mine.pem
    assert store.material("mqtts").crl_pem == (tmp_path / "crl.pem").read_bytes()
    assert store.material("wss").certificate_chain_pem == store.material("https").certificate_chain_pem
    assert {store.material(name).client_ca_pem for name in ("mqtts", "wss")} == {clients.pem}


def test_a_new_revocation_list_is_a_change(tmp_path: Path) -> None:
    clients, revoked = pki.authority(), pki.issue("lost")
    certificate, key = pki.issue("server").write(tmp_path)
    (tmp_path / "ca.pem").write_bytes(clients.pem)
    pki.replace(tmp_path / "crl.pem", pki.revoked(clients))
    files = MaterialFiles(certificate, key, tmp_path / "ca.pem", tmp_path / "crl.pem")
    store = CertificateStore({"mqtts": files}, Alarms(LogObserver()), wall_s=lambda: NOW_S)
    told: list[bytes] = []
    store.on_change(lambda _name, material: told.append(material.crl_pem))
    pki.replace(tmp_path / "crl.pem", pki.revoked(clients, revoked))
    asyncio.run(store.reload())
    assert told == [(tmp_path / "crl.pem").read_bytes()]
