"""The broker's own authority and certificates: made once and whole, renewed in time, trusted by OpenSSL."""

from __future__ import annotations

import shutil
import stat
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from broker.net.certificates import CertificateError, OwnCertificates, load
from broker.net.certificates.authority import issue, make_authority
from broker.net.certificates.own import server_names

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)
NAMES = ("mqtt.example.org", "localhost", "127.0.0.1")


def own(folder: Path, names: tuple[str, ...] = NAMES) -> OwnCertificates:
    return OwnCertificates(folder / "tls", names)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "tls").iterdir()}


def modes(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder / "tls").iterdir()}


def test_the_first_start_makes_all_and_the_next_one_nothing(tmp_path: Path) -> None:
    assert own(tmp_path).ensure(NOW)
    assert modes(tmp_path) == {"ca.pem": 0o644, "ca.key": 0o600, "server.pem": 0o600}
    assert stat.S_IMODE((tmp_path / "tls").stat().st_mode) == 0o700
    made = contents(tmp_path)
    assert not own(tmp_path).ensure(NOW + DAY)
    assert contents(tmp_path) == made


def test_what_a_crash_has_left_unfinished_is_thrown_away(tmp_path: Path) -> None:
    (tmp_path / "tls.unfinished").mkdir()
    (tmp_path / "tls.unfinished" / "ca.pem").write_text("half")
    assert own(tmp_path).ensure(NOW)
    assert [path.name for path in tmp_path.iterdir()] == ["tls"]
    (tmp_path / "tls" / "server.pem.new").write_text("half")
    assert own(tmp_path, ("other",)).ensure(NOW)
    assert sorted(modes(tmp_path)) == ["ca.key", "ca.pem", "server.pem"]


def test_openssl_finds_nothing_wrong_with_them(tmp_path: Path, program: Callable[[str], str]) -> None:
    own(tmp_path).ensure(NOW)
    verify = [program("openssl"), "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", "ca.pem"]
    for name in ("mqtt.example.org", "localhost"):
        command = [*verify, "-verify_hostname", name, "server.pem"]
        answer = subprocess.run(command, cwd=tmp_path / "tls", capture_output=True, text=True)
        assert answer.stdout == "server.pem: OK\n", answer.stderr
    refused = subprocess.run([*verify, "-verify_hostname", "other", "server.pem"], cwd=tmp_path / "tls")
    assert refused.returncode != 0


def test_each_certificate_says_what_it_is_for(tmp_path: Path) -> None:
    own(tmp_path).ensure(NOW)
    ca = x509.load_pem_x509_certificate((tmp_path / "tls" / "ca.pem").read_bytes())
    server = x509.load_pem_x509_certificate((tmp_path / "tls" / "server.pem").read_bytes())
    for one, is_ca in ((ca, True), (server, False)):
        constraints = one.extensions.get_extension_for_class(x509.BasicConstraints)
        usage = one.extensions.get_extension_for_class(x509.KeyUsage)
        assert (constraints.critical, constraints.value.ca, usage.critical) == (True, is_ca, True)
        assert (usage.value.key_cert_sign, usage.value.crl_sign, usage.value.digital_signature) == (
            is_ca,
            is_ca,
            not is_ca,
        )
    purposes = server.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(purposes) == [ExtendedKeyUsageOID.SERVER_AUTH]
    issuer = server.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    assert issuer == ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    assert ca.not_valid_after_utc - NOW == timedelta(days=3652)
    assert server.not_valid_after_utc - NOW == timedelta(days=397)


def test_a_new_one_is_made_30_days_before_the_end_by_the_same_authority(tmp_path: Path) -> None:
    own(tmp_path).ensure(NOW)
    before = contents(tmp_path)
    assert not own(tmp_path).ensure(NOW + 366 * DAY)
    assert own(tmp_path).ensure(NOW + 367 * DAY)
    after = contents(tmp_path)
    assert (after["ca.pem"], after["ca.key"]) == (before["ca.pem"], before["ca.key"])
    assert after["server.pem"] != before["server.pem"]
    assert modes(tmp_path)["server.pem"] == 0o600
    assert load(own(tmp_path).files).not_after == int((NOW + (367 + 397) * DAY).timestamp())


def test_a_clock_that_was_never_set_makes_nothing_that_is_old_when_it_is(tmp_path: Path) -> None:
    own(tmp_path).ensure(datetime(1970, 1, 1, tzinfo=UTC))
    own(tmp_path).ensure(NOW)
    assert load(own(tmp_path).files).doubts(NOW) == []


def test_other_names_are_another_certificate(tmp_path: Path) -> None:
    own(tmp_path).ensure(NOW)
    assert own(tmp_path, ("new.example.org", *NAMES[1:])).ensure(NOW)
    assert load(own(tmp_path).files).names == ("new.example.org", "localhost", "127.0.0.1")
    assert not own(tmp_path, ("127.0.0.1", "localhost", "new.example.org")).ensure(NOW)  # in any order


@pytest.mark.parametrize("damage", [b"", b"junk", None])
def test_a_server_certificate_that_is_damaged_or_gone_is_made_again(tmp_path: Path, damage: bytes | None) -> None:
    own(tmp_path).ensure(NOW)
    file = tmp_path / "tls" / "server.pem"
    file.unlink() if damage is None else file.write_bytes(damage)
    assert own(tmp_path).ensure(NOW)
    assert load(own(tmp_path).files).names == NAMES


def test_one_of_another_authority_is_made_again(tmp_path: Path) -> None:
    own(tmp_path).ensure(NOW)
    (tmp_path / "other").mkdir()
    own(tmp_path / "other").ensure(NOW)
    shutil.copy(tmp_path / "other" / "tls" / "server.pem", tmp_path / "tls" / "server.pem")
    assert own(tmp_path).ensure(NOW)


def test_an_authority_is_never_made_anew_in_silence(tmp_path: Path) -> None:
    own(tmp_path).ensure(NOW)
    (tmp_path / "tls" / "ca.key").rename(tmp_path / "kept elsewhere")
    assert not own(tmp_path).ensure(NOW)
    with pytest.raises(CertificateError, match=r"ca\.key: No such file.*from a backup"):
        own(tmp_path, ("new",)).ensure(NOW)
    (tmp_path / "tls" / "ca.pem").write_text("junk")
    with pytest.raises(CertificateError, match=r"ca\.pem: no certificate"):
        own(tmp_path).ensure(NOW)


@pytest.mark.parametrize("content", [b"junk", make_authority(NOW).certificate_pem])
def test_a_damaged_key_of_the_authority_is_told(tmp_path: Path, content: bytes) -> None:
    own(tmp_path).ensure(NOW)
    (tmp_path / "tls" / "ca.key").write_bytes(content)
    with pytest.raises(CertificateError, match="no authority that can issue anything"):
        own(tmp_path, ("new",)).ensure(NOW)


def test_nothing_lasts_longer_than_its_authority(tmp_path: Path) -> None:
    authority, late = make_authority(NOW), NOW + 3500 * DAY
    server = x509.load_pem_x509_certificate(issue(authority, ["a"], late).certificate_pem)
    assert server.not_valid_after_utc == late + 152 * DAY
    own(tmp_path).ensure(NOW)
    assert own(tmp_path).ensure(late)
    assert not own(tmp_path).ensure(late + 151 * DAY)  # another one would end on the same day


def test_names_are_the_public_host_and_all_that_is_local() -> None:
    names = server_names("Mqtt.Example.org", ["0.0.0.0", "::", "", "10.0.0.1", "::1", "bücher.example"])
    assert names[0] == "mqtt.example.org"
    assert {"localhost", "127.0.0.1", "::1", "10.0.0.1", "xn--bcher-kva.example"} <= set(names)
    assert not {"0.0.0.0", "::", ""} & set(names)
    assert len(set(names)) == len(names)


@given(st.text(min_size=1, max_size=253))
def test_whatever_the_public_host_is_there_is_a_certificate(host: str) -> None:
    pair = issue(AUTHORITY, server_names(host, []), NOW)
    assert x509.load_pem_x509_certificate(pair.certificate_pem)


AUTHORITY = make_authority(NOW)
