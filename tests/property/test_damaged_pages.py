"""Rules of reading a damaged store's file: never a crash, never a wrong value, and what is undamaged is found again."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import lmdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.errors import StoreError
from broker.storage.datafile import Kind
from broker.storage.pages import examine, verify
from broker.storage.salvage import Salvage
from tests.support.damage import (
    PAGE,
    Contents,
    Sample,
    is_sealed,
    make_store,
    swap_pages,
    tear_page,
    zero_page,
)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return make_store(tmp_path_factory.mktemp("sample"), commits=8, puts=9)


def rescued_from(path: Path) -> Contents:
    with Salvage(path, is_sealed) as found:
        return {(table, key): value for table, key, value in found}


def damaged(sample: Sample, tmp_path: Path, change: Callable[[bytearray], None]) -> Path:
    data = bytearray(sample.path.read_bytes())
    change(data)
    path = tmp_path / "data.mdb"
    path.write_bytes(data)
    return path


def nothing_wrong(sample: Sample, rescued: Contents) -> None:
    """Each value is that of the last commit, or of the one before."""
    for place, value in rescued.items():
        assert value in (sample.newest.get(place), sample.before.get(place))


def test_a_whole_store_has_no_findings_and_gives_everything(sample: Sample) -> None:
    report = examine(sample.path)
    assert report.findings == []
    assert (report.lost_pages, report.complete) == (0, True)
    assert sum(table.entries for table in report.tables.values()) == len(sample.newest)
    assert rescued_from(sample.path) == sample.newest


@pytest.mark.parametrize("step", range(4))
def test_no_commit_leaves_anything_that_would_be_found(tmp_path: Path, step: int) -> None:
    for commits in range(1 + step, 40, 4):
        made = make_store(tmp_path / str(commits), commits=commits, puts=4, seed=commits)
        assert verify(made.path) == []


def test_each_page_zeroed_costs_only_what_was_on_it(sample: Sample, tmp_path: Path) -> None:
    found = silent = 0
    for page in range(sample.pages):
        path = damaged(sample, tmp_path, lambda data, page=page: zero_page(data, page))  # type: ignore[misc]
        findings, rescued = verify(path), rescued_from(path)
        nothing_wrong(sample, rescued)
        lost = sample.newest.keys() - rescued.keys()
        assert len(lost) <= 40
        found += bool(findings)
        silent += not findings
    assert found > silent / 3  # free pages, and the insides of large values, are nothing that a structure shows
    assert found > 60


def test_each_branch_page_zeroed_costs_nothing(sample: Sample, tmp_path: Path) -> None:
    data = sample.path.read_bytes()
    branches = [page for page in range(2, sample.pages) if data[page * PAGE + 10] == 1]
    assert branches
    for page in branches:
        path = damaged(sample, tmp_path, lambda data, page=page: zero_page(data, page))  # type: ignore[misc]
        assert rescued_from(path) == sample.newest


@pytest.mark.parametrize("pages", [(0,), (1,), (0, 1)], ids=str)
def test_lost_meta_pages_cost_nothing(sample: Sample, tmp_path: Path, pages: tuple[int, ...]) -> None:
    def change(data: bytearray) -> None:
        for page in pages:
            zero_page(data, page)

    path = damaged(sample, tmp_path, change)
    assert {finding.kind for finding in verify(path)} <= {Kind.META, Kind.ZEROED}
    assert rescued_from(path) == sample.newest


@pytest.mark.parametrize("sectors", range(1, 8))
def test_each_page_torn_gives_no_wrong_value(sample: Sample, tmp_path: Path, sectors: int) -> None:
    for page in range(sectors % 3, sample.pages, 3):
        path = damaged(sample, tmp_path, lambda data, page=page: tear_page(data, page, sectors))  # type: ignore[misc]
        verify(path)
        rescued = rescued_from(path)
        nothing_wrong(sample, rescued)
        assert len(sample.newest.keys() - rescued.keys()) <= 40


def test_a_file_cut_anywhere_gives_what_lies_before_the_cut(sample: Sample, tmp_path: Path) -> None:
    data = sample.path.read_bytes()
    path = tmp_path / "data.mdb"
    for cut in range(0, len(data), PAGE // 2):
        path.write_bytes(data[:cut])
        findings, rescued = verify(path), rescued_from(path)
        for place, value in rescued.items():
            assert is_sealed(*place, value)
        assert findings or cut > len(data) - 2 * PAGE
        if cut > len(data) // 2:  # in proportion to what is there, even where all newest roots are gone
            assert len(rescued) > len(sample.newest) * (cut / len(data) - 0.35)
    assert verify(path) or rescued_from(path) == sample.newest


KINDS = ("zero", "noise", "byte", "swap", "header", "number")
DAMAGES = st.lists(
    st.tuples(st.sampled_from(KINDS), st.integers(0, 2**16), st.integers(0, PAGE - 1), st.integers(0, 2**64 - 1)),
    min_size=1,
    max_size=6,
)


def harm(file: bytearray, kind: str, page: int, offset: int, number: int) -> None:
    """One piece of damage; half of them to the few pages on which everything depends."""
    pages = len(file) // PAGE
    page = page % 4 if page % 2 else page // 2 % pages
    start = page * PAGE
    if kind == "zero":
        zero_page(file, page)
    elif kind == "noise":
        file[start : start + PAGE] = random.Random(number).randbytes(PAGE)
    elif kind == "byte":
        file[start + offset] = number % 256
    elif kind == "swap":
        swap_pages(file, page, number % pages)
    elif kind == "header":
        file[start + 8 + offset % 40] = number % 256
    else:
        file[start : start + 8] = number.to_bytes(8, "little")


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damages=DAMAGES)
def test_any_damage_gives_no_wrong_value_and_ends(
    sample: Sample, tmp_path: Path, damages: list[tuple[str, int, int, int]]
) -> None:
    def change(file: bytearray) -> None:
        for damage in damages:
            harm(file, *damage)

    path = damaged(sample, tmp_path, change)
    verify(path)
    for (table, key), value in rescued_from(path).items():
        assert is_sealed(table, key, value)
    with Salvage(path) as unjudged:
        assert all(len(found.key) <= 511 for found in unjudged)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=20_000))
def test_a_foreign_file_is_named_and_gives_nothing(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "data.mdb"
    path.write_bytes(content)
    kinds = {finding.kind for finding in verify(path)}
    assert kinds & {Kind.EMPTY, Kind.ZEROED, Kind.CUT, Kind.FOREIGN}
    assert rescued_from(path) == {}


def test_swapped_pages_are_found(sample: Sample, tmp_path: Path) -> None:
    data = sample.path.read_bytes()
    leaves = [page for page in range(2, sample.pages) if data[page * PAGE + 10] == 2]
    used = [page for page in leaves if verify(damaged(sample, tmp_path, lambda data, page=page: zero_page(data, page)))]  # type: ignore[misc]
    for one, other in pairwise(used):
        path = damaged(sample, tmp_path, lambda data, one=one, other=other: swap_pages(data, one, other))  # type: ignore[misc]
        assert verify(path)
        nothing_wrong(sample, rescued_from(path))


def test_a_newer_lmdb_is_named(sample: Sample, tmp_path: Path) -> None:
    def change(data: bytearray) -> None:
        for page in (0, 1):
            data[page * PAGE + 20] = 2

    assert [finding.kind for finding in verify(damaged(sample, tmp_path, change))] == [Kind.NEWER_LMDB]


def test_what_may_not_be_read_is_refused_and_not_judged(sample: Sample, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError, match="not a plain file"):
        verify(tmp_path / "folder")
    with pytest.raises(FileNotFoundError):
        verify(tmp_path / "absent")


def test_two_tables_that_share_pages_are_found(tmp_path: Path) -> None:
    made = make_store(tmp_path / "s", commits=2, puts=30)
    data = bytearray(made.path.read_bytes())
    newest = max((0, 1), key=lambda page: int.from_bytes(data[page * PAGE + 144 : page * PAGE + 152], "little"))
    root = int.from_bytes(data[newest * PAGE + 128 : newest * PAGE + 136], "little") * PAGE
    record = {name: data.find(name + b"\x00\x00\x00\x00", root, root + PAGE) for name in (b"devices", b"messages")}
    one, other = (place + len(name) for name, place in record.items())
    data[one : one + 48] = data[other : other + 48]
    made.path.write_bytes(data)
    assert any("in use twice" in finding.text for finding in verify(made.path))


def test_the_walk_agrees_with_lmdb_about_entries_and_pages(sample: Sample) -> None:
    report = examine(sample.path)
    with lmdb.open(str(sample.path.parent), max_dbs=16, readonly=True, lock=False) as environment:
        for name, table in report.tables.items():
            with environment.begin(db=environment.open_db(name.encode(), create=False)) as transaction:
                stat = transaction.stat()
            pages = stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
            assert (table.entries, table.pages, table.depth) == (stat["entries"], pages, stat["depth"])
