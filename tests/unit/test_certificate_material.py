"""What is taken from PEM files and what is refused: an error names the file and what is wrong with it."""

from __future__ import annotations

import contextlib
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.net.certificates import CertificateError, MaterialFiles, TlsMaterial, load
from tests.support import pki

DAY = timedelta(days=1)
NOW = datetime.now(UTC)
ROOT = pki.authority("Root")
MIDDLE = pki.authority("Middle", by=ROOT)
SERVER = pki.issue("server", by=MIDDLE, names=("Mqtt.example.org", "localhost"))


def refused(files: MaterialFiles) -> str:
    with pytest.raises(CertificateError) as caught:
        load(files)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_chain_key_names_fingerprint_and_end_are_read(tmp_path: Path) -> None:
    certificate, key = SERVER.write(tmp_path, MIDDLE)
    material = load(MaterialFiles(certificate, key))
    assert material.certificate_chain_pem == SERVER.pem + MIDDLE.pem
    assert material.private_key_pem == SERVER.key_pem
    assert material.names == ("Mqtt.example.org", "localhost")
    assert re.fullmatch("[0-9a-f]{64}", material.fingerprint)
    assert material.not_after == int(SERVER.certificate.not_valid_after_utc.timestamp())
    assert (material.client_ca_pem, material.crl_pem) == (b"", b"")
    assert "PRIVATE" not in repr(material)


def test_certificate_and_key_may_be_one_file_with_comments(tmp_path: Path) -> None:
    file = tmp_path / "both.pem"
    file.write_bytes(b"# ours\n" + SERVER.key_pem + b"of 2026\n" + SERVER.pem)
    material = load(MaterialFiles(file, file))
    assert (material.certificate_chain_pem, material.private_key_pem) == (SERVER.pem, SERVER.key_pem)


KEYS: list[pki.AnyKey] = [
    rsa.generate_private_key(65537, 2048),
    ec.generate_private_key(ec.SECP384R1()),
    ed25519.Ed25519PrivateKey.generate(),
]


@pytest.mark.parametrize("key", KEYS, ids=lambda key: type(key).__name__)
def test_keys_that_tls_uses_are_taken(tmp_path: Path, key: pki.AnyKey) -> None:
    assert load(MaterialFiles(*pki.issue("server", key=key).write(tmp_path)))


def test_a_missing_or_unreadable_file_is_named(tmp_path: Path) -> None:
    certificate, key = SERVER.write(tmp_path)
    assert refused(MaterialFiles(certificate, tmp_path / "absent.key")).endswith(
        "absent.key: No such file or directory"
    )
    assert refused(MaterialFiles(tmp_path, key)) == f"{tmp_path}: Is a directory"


@pytest.mark.parametrize("content", [b"", b"hello", b"\xff" * 100, SERVER.pem[:-60], SERVER.key_pem])
def test_what_is_no_certificate_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    _, key = SERVER.write(tmp_path)
    (tmp_path / "bad.pem").write_bytes(content)
    words = refused(MaterialFiles(tmp_path / "bad.pem", key))
    assert words.startswith(f"{tmp_path / 'bad.pem'}: no certificate in PEM that can be read (")


def test_files_that_are_mixed_up_or_no_pem_are_told_to_be(tmp_path: Path) -> None:
    certificate, key = SERVER.write(tmp_path)
    (tmp_path / "der").write_bytes(SERVER.certificate.public_bytes(Encoding.DER))
    assert refused(MaterialFiles(key, certificate)).endswith("(a private key is in it: are the two files mixed up?)")
    assert refused(MaterialFiles(certificate, certificate)).endswith(
        "(a certificate is in it: are the two files mixed up?)"
    )
    assert refused(MaterialFiles(tmp_path / "der", key)).endswith(
        "(nothing in it is PEM, which begins with -----BEGIN)"
    )
    (tmp_path / "cut.pem").write_bytes(SERVER.pem[:-60])
    assert "http" not in refused(MaterialFiles(tmp_path / "cut.pem", key))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no private key in PEM that can be read"),
        (SERVER.pem, "no private key in PEM that can be read"),
        (pki.key_pem(SERVER.key, b"secret"), "the private key has a passphrase"),
        (pki.key_pem(rsa.generate_private_key(65537, 1024)), "an RSA key of 1024 bits; 2048 are the least"),
        (pki.key_pem(dsa.generate_private_key(2048)), "a private key of a kind that TLS does not use"),
        (MIDDLE.key_pem, "not the key of the certificate in "),
    ],
)
def test_a_key_that_cannot_be_used_is_refused_by_name(tmp_path: Path, content: bytes, words: str) -> None:
    certificate, _ = SERVER.write(tmp_path)
    (tmp_path / "bad.key").write_bytes(content)
    assert refused(MaterialFiles(certificate, tmp_path / "bad.key")).startswith(f"{tmp_path / 'bad.key'}: {words}")


@pytest.mark.parametrize("chain", [(ROOT,), (ROOT, MIDDLE), (MIDDLE, SERVER)])
def test_a_chain_in_another_order_is_refused(tmp_path: Path, chain: tuple[pki.Issued, ...]) -> None:
    certificate, key = SERVER.write(tmp_path, *chain)
    assert "was not issued by certificate" in refused(MaterialFiles(certificate, key))


def test_a_certificate_for_clients_alone_is_refused(tmp_path: Path) -> None:
    one = pki.issue("client", purposes=[ExtendedKeyUsageOID.CLIENT_AUTH])
    assert "is not for servers" in refused(MaterialFiles(*one.write(tmp_path)))
    assert load(MaterialFiles(*pki.issue("any", purposes=()).write(tmp_path)))


def test_one_without_alternative_names_has_its_common_name(tmp_path: Path) -> None:
    assert load(MaterialFiles(*pki.issue("old.example.org", names=()).write(tmp_path))).names == ("old.example.org",)


# ---------------------------------------------------------------- clients


def with_clients(folder: Path, authorities: bytes, crl: bytes | None = None) -> MaterialFiles:
    certificate, key = SERVER.write(folder)
    (folder / "ca.pem").write_bytes(authorities)
    if crl is None:
        return MaterialFiles(certificate, key, folder / "ca.pem")
    (folder / "crl.pem").write_bytes(crl)
    return MaterialFiles(certificate, key, folder / "ca.pem", folder / "crl.pem")


def test_authorities_and_lists_of_several_are_taken(tmp_path: Path) -> None:
    lists = pki.revoked(ROOT) + pki.revoked(MIDDLE, SERVER)
    material = load(with_clients(tmp_path, ROOT.pem + MIDDLE.pem, b"# lists\n" + lists))
    assert (material.client_ca_pem, material.crl_pem) == (ROOT.pem + MIDDLE.pem, lists)


def test_who_is_no_authority_cannot_have_issued_anything(tmp_path: Path) -> None:
    assert "certificate 2 is no authority's" in refused(with_clients(tmp_path, ROOT.pem + SERVER.pem))


def test_a_list_has_to_be_of_the_authority(tmp_path: Path) -> None:
    namesake = pki.authority("Root")  # the same name, another key
    assert "list 1 is of nobody in client_ca_file (CN=Root)" in refused(
        with_clients(tmp_path, ROOT.pem, pki.revoked(namesake))
    )
    assert "list 2 is of nobody" in refused(with_clients(tmp_path, ROOT.pem, pki.revoked(ROOT) + pki.revoked(MIDDLE)))


@pytest.mark.parametrize("content", [b"", SERVER.pem, pki.revoked(ROOT).replace(b"M", b"!")])
def test_what_is_no_list_is_refused(tmp_path: Path, content: bytes) -> None:
    assert "crl.pem: no revocation list in PEM" in refused(with_clients(tmp_path, ROOT.pem, content))


# ---------------------------------------------------------------- time


def doubts(material: TlsMaterial, at: datetime = NOW) -> list[str]:
    return material.doubts(at)


def test_what_ends_is_told_21_days_before_and_taken_all_the_same(tmp_path: Path) -> None:
    ends = datetime(2030, 6, 1, tzinfo=UTC)
    material = load(MaterialFiles(*pki.issue("server", ends=ends).write(tmp_path)))
    assert doubts(material, ends - 21 * DAY) == []
    assert doubts(material, ends - 21 * DAY + timedelta(seconds=1)) == ["the certificate ends on 2030-06-01"]
    assert doubts(material, ends) == ["the certificate ended on 2030-06-01: clients refuse it"]


def test_the_first_of_a_chain_to_end_ends_all(tmp_path: Path) -> None:
    middle = pki.issue("Middle", by=ROOT, ca=True, purposes=(), ends=NOW + 3 * DAY)
    certificate, key = pki.issue("server", by=middle).write(tmp_path, middle)
    assert load(MaterialFiles(certificate, key)).not_after == int((NOW + 3 * DAY).timestamp())


def test_what_has_not_begun_is_told(tmp_path: Path) -> None:
    one = pki.issue("server", begins=NOW + DAY)
    assert "the certificate begins on" in doubts(load(MaterialFiles(*one.write(tmp_path))))[0]


def test_a_list_that_is_too_old_is_told(tmp_path: Path) -> None:
    material = load(with_clients(tmp_path, ROOT.pem, pki.revoked(ROOT, until=NOW - DAY)))
    assert "the revocation list was to be renewed by" in doubts(material)[0]
    assert doubts(load(with_clients(tmp_path, ROOT.pem, pki.revoked(ROOT)))) == []


def test_an_authority_of_clients_without_a_list_is_told_where_others_have_one(tmp_path: Path) -> None:
    other = pki.authority("Other")
    without = load(with_clients(tmp_path, ROOT.pem + other.pem, pki.revoked(ROOT)))
    assert doubts(without) == ["no revocation list of CN=Other: whom it has signed is not let in"]
    # One that signs no clients, but another authority, needs none.
    assert doubts(load(with_clients(tmp_path, ROOT.pem + MIDDLE.pem, pki.revoked(MIDDLE)))) == []
    assert doubts(load(with_clients(tmp_path, ROOT.pem + other.pem))) == []


# ---------------------------------------------------------------- anything


@settings(max_examples=60)
@given(st.binary(max_size=200), st.integers(0, len(SERVER.pem)), st.booleans())
def test_damaged_files_are_refused_and_never_more_than_that(
    tmp_path_factory: pytest.TempPathFactory, junk: bytes, at: int, in_key: bool
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    certificate, key = SERVER.write(folder)
    damaged = key if in_key else certificate
    content = damaged.read_bytes()
    damaged.write_bytes(content[:at] + junk + content[at + len(junk) :])
    with contextlib.suppress(CertificateError):
        assert load(MaterialFiles(certificate, key)).private_key_pem == SERVER.key_pem


def test_every_character_of_a_certificate_may_be_another_one(tmp_path: Path) -> None:
    certificate, key = SERVER.write(tmp_path)
    content = SERVER.pem
    for at in range(0, len(content), 3):
        certificate.write_bytes(content[:at] + b"A" + content[at + 1 :])
        with contextlib.suppress(CertificateError):
            load(MaterialFiles(certificate, key))
