"""A minute of the simulator: nothing is lost with fixed seeds, nor with one that nobody has chosen."""

from __future__ import annotations

import time

import pytest

from tests.simulator.disk import Disk, Platter
from tests.simulator.play import Failure, play, shrink
from tests.simulator.topics import matches
from tests.simulator.world import World

STEPS = 1000
LEVELS = ("synced", "memory")


def nothing_is_lost(seed: int, runs: int, level: str | None = None, lying: str = "", steps: int = STEPS) -> None:
    for number in range(seed, seed + runs):
        outcome = play(number, steps, level=level, lying=lying)
        assert not isinstance(outcome, Failure), outcome.text()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("level", LEVELS)
def test_nothing_is_lost_whatever_happens_whenever(level: str) -> None:
    nothing_is_lost(1, 80, level)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("runs", "steps"), [(30, STEPS), (8, 4 * STEPS)])  # long runs come to what short ones do not
def test_nothing_is_lost_with_a_seed_that_nobody_has_chosen(runs: int, steps: int) -> None:
    seed = time.time_ns() // 1000 % 1_000_000_000
    print(f"python -m tests.simulator --seed {seed} --steps {steps} --runs {runs}")  # noqa: T201
    nothing_is_lost(seed, runs, steps=steps)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("lying", ["prefix", "subset"])
def test_a_disk_that_lies_costs_what_it_lost_and_nothing_else_breaks(lying: str) -> None:
    nothing_is_lost(1, 60, "synced", lying)


def told(seed: int) -> list[tuple[object, ...]]:
    world = play(seed, STEPS)
    assert isinstance(world, World)
    return [tuple(map(str, one)) for one in world.trace]


def test_the_same_seed_plays_the_same_run() -> None:
    for seed in (3, 4, 5):
        assert told(seed) == told(seed)


def test_runs_do_what_they_are_for() -> None:
    worlds = [play(seed, STEPS, level="synced") for seed in range(1, 31)]
    assert all(isinstance(world, World) for world in worlds)
    done = [world for world in worlds if isinstance(world, World)]
    assert sum(world.crashes for world in done) > 50
    assert sum(world.drains for world in done) > 50
    assert sum(world.ledger.promises for world in done) > 2000
    assert sum(world.ledger.deliveries.delivered for world in done) > 1000
    assert sum(world.platter.commits for world in done) > 2000


def test_a_failure_names_its_seed_and_is_found_with_fewer_steps() -> None:
    failure = next(
        found for seed in range(1, 200)
        if isinstance(found := play(seed, STEPS, level="synced", faults=frozenset(["sync-skipped"])), Failure)
    )  # fmt: skip
    assert f"--seed {failure.seed} --steps {STEPS} --fault sync-skipped --level synced" in failure.text()
    again = play(failure.seed, STEPS, level="synced", faults=failure.faults)
    assert isinstance(again, Failure)
    assert (again.error, again.trace) == (failure.error, failure.trace)
    smaller = shrink(failure, attempts=60)
    assert smaller.rule == failure.rule
    assert len(smaller.kept) < len(failure.kept)


def test_a_crash_keeps_what_was_committed_and_nothing_that_was_only_submitted() -> None:
    platter = Platter()
    disk = Disk(platter)
    answers: list[tuple[int, BaseException | None]] = []
    for ticket in (1, 2):
        disk.submit(ticket, [("meta", bytes((ticket,)), b"")], lambda *answer: answers.append(answer))
        while ticket == 1 and disk.step():
            pass
    assert answers == [(1, None)]
    assert Disk(platter).load("meta") == [(b"\1", b"")]


@pytest.mark.parametrize(
    ("topic_filter", "topic", "expected"),
    [("a/#", "a", True), ("a/+", "a", False), ("+/b", "a/b", True), ("a", "a/b", False), ("a/b", "a", False)],
)
def test_the_ledger_knows_what_a_filter_matches(topic_filter: str, topic: str, expected: bool) -> None:
    assert matches(topic_filter, topic) is expected
