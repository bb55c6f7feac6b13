"""Rules of JSON bodies that a hostile caller would like to be different."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api._jsonscan import JsonScan
from api.jsontext import RawJson, compact, kept_object, members_of, parse_object, parse_value, scan
from api.turns import Turns
from broker.errors import BadRequest

LEVELS = 8


def test_a_key_given_twice_is_found_without_looking_at_every_pair() -> None:
    # Looking for each name among all names took minutes here, and the loop stood still meanwhile.
    names = ",".join(f'"{number:x}":0' for number in range(9_000))
    with pytest.raises(BadRequest, match="the key 'z' is there twice"):
        parse_object(f'{{"payload":{{{names},"z":0,"z":0}}}}'.encode())


def test_an_object_has_so_many_keys_and_no_more() -> None:
    def named(count: int) -> bytes:
        return b'{"a":{%s}}' % b",".join(b'"%x":0' % number for number in range(count))

    assert JsonScan(named(10_000), LEVELS).advance(10**9)
    with pytest.raises(ValueError, match="more than 10000 keys"):
        JsonScan(named(10_001), LEVELS).advance(10**9)


# ---------------------------------------------------------------- the scanner against Python's own reader


def once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("twice")
    return dict(pairs)


def finite(text: str) -> float:
    if not math.isfinite(float(text)):
        raise ValueError("too large")
    return float(text)


def no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max((depth(one) for one in inner), default=0)


def as_python_reads(text: bytes) -> Any:
    """Read by the rules of this API. Raises ``ValueError``."""
    value = json.loads(text.decode(), object_pairs_hook=once_each, parse_constant=no_constant, parse_float=finite)
    if depth(value) > LEVELS:
        raise ValueError("too deep")
    return value


def scanned(text: bytes, cost: int) -> JsonScan:
    reading = JsonScan(text, LEVELS, 3)
    while not reading.advance(cost):
        pass
    return reading


def same(one: Any, other: Any) -> bool:
    return json.dumps(one) == json.dumps(other)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)
TOKENS = """{ } [ ] , : " "a" "b" "\\u0061" "\\ud83d\\ude00" "\\ud800" "\\x" 0 - -0 01 1 1.5 1. .5 1e5 1E+400
    -1e999 1e-999 true false null nul NaN Infinity -Infinity \u00e9 "\u00e9\U0001f600" "\x01\""""
FRAGMENTS = st.lists(st.sampled_from([*TOKENS.split(), " ", "\n", "\t", "\x0b", "9" * 4301]), max_size=12).map("".join)


def judge(text: bytes, cost: int) -> None:
    try:
        value = as_python_reads(text)
    except (ValueError, RecursionError):
        with pytest.raises(ValueError, match=r"."):
            scanned(text, cost)
        return
    reading = scanned(text, cost)
    assert same(json.loads(reading.compact), value)
    assert len(reading.compact) <= len(text)
    assert reading.is_object == isinstance(value, dict)
    if isinstance(value, dict):
        found = {key.decode("utf-8", "surrogatepass"): reading.piece(at, end) for key, at, end, _ in reading.members}
        assert same({key: json.loads(text) for key, text in found.items()}, value)
        lists = [one for values in value.values() if isinstance(values, list) for one in values]
        assert reading.item_count == len(lists)
        assert same([json.loads(reading.piece(*place)) for place in reading.items], lists[:3])


@given(VALUES, st.integers(1, 40), st.sampled_from([None, 1, "\t"]), st.booleans())
def test_what_is_json_is_read_whole_in_any_slices(value: Any, cost: int, indent: Any, ascii_alone: bool) -> None:
    judge(json.dumps(value, indent=indent, ensure_ascii=ascii_alone).encode(), cost)


@given(FRAGMENTS, st.integers(1, 40))
def test_what_python_refuses_is_refused_and_nothing_else(text: str, cost: int) -> None:
    judge(text.encode(), cost)


@given(VALUES, st.integers(0, 200), st.sampled_from(list(b'{}[],:"\\ae0 -.\x00')), st.integers(1, 40))
def test_one_wrong_byte_is_found_as_python_finds_it(value: Any, place: int, byte: int, cost: int) -> None:
    text = bytearray(json.dumps(value).encode())
    text[place % len(text)] = byte
    judge(bytes(text), cost)


# ---------------------------------------------------------------- bodies


def test_a_value_that_is_wanted_as_text_is_not_made() -> None:
    async def body() -> None:
        reading = await scan(b' { "payload" : [ 1.50 , "\\u00e9" ] , "qos" : 1, "x": [%s0] }' % (b"0," * 9000), Turns())
        members = members_of(reading, "payload", ("payload", "qos"))
        assert members["payload"] == RawJson(b'[1.50,"\\u00e9"]')
        assert members["qos"] == 1
        assert members["x"].startswith("[0,0,")  # nobody takes it: how it begins is enough to refuse it
        assert len(members["x"]) < 5000

    asyncio.run(body())


def test_of_members_that_nobody_wants_the_first_is_made() -> None:
    async def body() -> None:
        others = b",".join(b'"x%d": 1' % number for number in range(9000))
        reading = await scan(b'{"qos": 1, %s, "payload": 2}' % others, Turns())
        assert members_of(reading, "payload", ("payload", "qos")) == {"qos": 1, "x0": 1, "payload": RawJson(b"2")}

    asyncio.run(body())


@pytest.mark.parametrize("text", [b'{"payload": "\\ud800"}', b'{"payload": {"\\udc00": 1}}'])
def test_a_payload_is_text(text: bytes) -> None:
    async def body() -> None:
        with pytest.raises(BadRequest) as refused:
            members_of(await scan(text, Turns()), "payload", ("payload",))
        assert refused.value.field == "payload"

    asyncio.run(body())
    with pytest.raises(ValueError, match="surrogates"):
        parse_value(text)
    assert parse_object(text)


@pytest.mark.parametrize("depth", [1, 98, 99, 100, 101, 255, 300, 800, 20_000])
def test_what_an_earlier_version_kept_too_deep_is_cut_where_it_could_not_be_written(depth: int) -> None:
    text = '{"a":' + "[" * depth + "]" * depth + ',"b":[{"c":1}]}'
    value = kept_object(text)
    assert len(compact(value)) < 1000
    if depth < 100:
        assert compact(value).decode() == text
    elif depth < 1000:
        assert value["b"] == [{"c": 1}]
        assert compact(value).count(b"[") == 100
        assert b"[null]" in compact(value)


def test_a_body_of_very_many_values_is_refused_before_they_are_made() -> None:
    assert len(parse_object(b'{"x":[%s1]}' % (b"1," * 9_990))["x"]) == 9_991
    with pytest.raises(BadRequest, match="10000 values"):
        parse_object(b'{"x":[%s1]}' % (b"1," * 10_000))


@pytest.mark.parametrize("unit", ["1,", "1e100,", "{},", "[],", '{"":1},', '"a",', "[" * 90 + "]" * 90 + ","])
def test_others_have_their_turns_while_a_large_body_is_read(unit: str) -> None:
    text = b'{"payload":[%s1]}' % (unit * (1_000_000 // len(unit))).encode()

    async def body() -> int:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        counting = asyncio.create_task(count())
        await scan(text, Turns())
        counting.cancel()
        return turns

    assert asyncio.run(body()) > len(text) / 33_000
