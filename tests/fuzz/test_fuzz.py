"""Each fuzz target for a moment, with fixed seeds: the corpus and what grows from it break nothing."""

from __future__ import annotations

import pytest

from tests.fuzz.driver import CORPUS, TARGETS, inputs, load_corpus, load_target, run

SEED = 1


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_survives_its_corpus_and_damaged_copies(name: str) -> None:
    assert run(name, SEED, seconds=10, most=5_000) > len(load_corpus(name))


@pytest.mark.parametrize("name", TARGETS)
def test_the_same_seed_gives_the_same_inputs(name: str) -> None:
    first, second = inputs(name, 7), inputs(name, 7)
    assert [next(first) for _ in range(200)] == [next(second) for _ in range(200)]


def test_every_folder_of_the_corpus_has_its_target() -> None:
    assert sorted(path.name for path in CORPUS.iterdir()) == sorted(TARGETS)
    assert all(callable(load_target(name)) for name in TARGETS)


def test_a_failing_input_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(data: bytes) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr("tests.fuzz.codec.one_input", fail)
    with pytest.raises(RuntimeError) as caught:
        run("codec", 1, most=10)
    assert load_corpus("codec")[0].hex() in caught.value.__notes__[0]
