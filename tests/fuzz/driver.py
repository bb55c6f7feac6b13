"""Runs a fuzz target over its corpus and over damaged copies of it, with nothing but Python; atheris when asked for.

Here belong reading the corpus and damaging it. Not here: what a target checks.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from random import Random

Target = Callable[[bytes], None]

CORPUS = Path(__file__).parent / "corpus"
TARGETS = ("codec", "core", "clients", "doors")
INTERESTING = bytes((0x00, 0x01, 0x02, 0x23, 0x26, 0x2B, 0x7F, 0x80, 0xC0, 0xED, 0xFE, 0xFF))


def load_target(name: str) -> Target:
    """The function of a target; it returns for every input that is handled, and raises for a bug."""
    target: Target = import_module(f"tests.fuzz.{name}").one_input
    return target


def load_corpus(name: str) -> list[bytes]:
    """The seeds of a target, in the order of their file names."""
    return [path.read_bytes() for path in sorted((CORPUS / name).iterdir()) if path.is_file()]


def damage(seed: bytes, others: list[bytes], rng: Random) -> bytes:
    """A copy of a seed with one to eight wounds."""
    data = bytearray(seed)
    for _ in range(rng.randint(1, 8)):
        rng.choice((change, flip, cut, insert, double, splice))(data, others, rng)
    return bytes(data)


def change(data: bytearray, others: list[bytes], rng: Random) -> None:
    """Put a byte that often matters somewhere."""
    if data:
        data[rng.randrange(len(data))] = rng.choice(INTERESTING)


def flip(data: bytearray, others: list[bytes], rng: Random) -> None:
    """Flip one bit."""
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def cut(data: bytearray, others: list[bytes], rng: Random) -> None:
    """Take some bytes out."""
    at = rng.randint(0, len(data))
    del data[at : at + rng.randint(1, 9)]


def insert(data: bytearray, others: list[bytes], rng: Random) -> None:
    """Put random bytes in."""
    at = rng.randint(0, len(data))
    data[at:at] = rng.randbytes(rng.randint(1, 9))


def double(data: bytearray, others: list[bytes], rng: Random) -> None:
    """Repeat a stretch."""
    at = rng.randint(0, len(data))
    data[at:at] = data[at : at + rng.randint(1, 30)] * rng.randint(1, 3)


def splice(data: bytearray, others: list[bytes], rng: Random) -> None:
    """Go on as another seed does."""
    other = rng.choice(others)
    data[rng.randint(0, len(data)) :] = other[rng.randint(0, len(other)) :]


def inputs(name: str, seed: int) -> Iterator[bytes]:
    """The corpus of a target, then damaged copies without end; the same for the same seed."""
    rng = Random(seed)
    corpus = load_corpus(name)
    yield from corpus
    while True:
        yield damage(rng.choice(corpus), corpus, rng)


def run(name: str, seed: int, *, seconds: float = float("inf"), most: float = float("inf")) -> int:
    """Feed a target until the time or the number of inputs is used up; returns how many inputs that were.

    What a target raises goes up with the input in a note, ready to become a seed.
    """
    target = load_target(name)
    end = time.monotonic() + seconds
    for done, data in enumerate(inputs(name, seed)):
        if done >= most or (done % 256 == 0 and time.monotonic() >= end):
            return done
        try:
            target(data)
        except BaseException as error:
            error.add_note(f"target {name}, seed {seed}, input {done}: {data.hex()}")
            raise
    raise AssertionError("inputs never end")


def run_atheris(name: str, arguments: list[str]) -> None:
    """Hand a target and its corpus to atheris (libFuzzer), with libFuzzer's own arguments; does not return."""
    atheris = import_module("atheris")
    target = load_target(name)
    atheris.Setup([sys.argv[0], *arguments, str(CORPUS / name)], target)
    atheris.Fuzz()
