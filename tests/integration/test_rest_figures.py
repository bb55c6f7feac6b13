"""Quota, usage and stats as a caller sees them: the printed answers, exact figures, and every wrong parameter."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from broker.accounts.days import ALL, KEPT_DAYS, encode_day
from broker.admin import figures as figures_module
from broker.errors import StoreError
from broker.ports import AccountStanding, Presence, Standing, UsageRow
from broker.storage.tables import DAILY, day_key
from tests.integration.test_rest import TIMESTAMP, Caller, assert_error, assert_same_shape, printed_json, run
from tests.upper import NOW_S, FakeClock

DAY_S = 24 * 3600
TODAY = date(2025, 11, 5)
GB = 10**9


def count(caller: Caller, device_id: str | None, messages: int, size: int, *, account_id: int = 1) -> None:
    """A device has published and received, half of it each; ``size`` is of all of them."""
    number = None if device_id is None else caller.upper.directory.devices.get(account_id, device_id).device_number
    one = messages // 2, size // 2
    row: UsageRow = (account_id, number, messages - one[0], size - one[1], *one)
    caller.upper.core.counted.append(row)


async def get(caller: Caller, path: str, **query: str) -> dict[str, Any]:
    answer = await caller.http.get("/v1/iot" + path, params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


# ---------------------------------------------------------------- quota


def test_the_quota_is_answered_as_both_documents_print_it(platform_documents: Path) -> None:
    long = printed_json((platform_documents / "mqtt-credentials.txt").read_text(encoding="utf-8"), "plan")
    short = printed_json((platform_documents / "iot-platform-overview.txt").read_text(encoding="utf-8"), "max_devices")

    async def body(caller: Caller) -> None:
        for _ in range(42):
            await caller.create()
        caller.upper.clock.wall = int(datetime(2025, 11, 20, tzinfo=UTC).timestamp())
        caller.upper.counting.count_at_once()
        count(caller, None, 1_523_456, 12_500_000_000)
        answered = await get(caller, "/quota")
        assert answered == {**long, **short}
        assert list(answered)[: len(long)] == list(long)
        assert_same_shape({**long, **short}, answered)

    run(body)


def test_a_fresh_account_has_used_nothing() -> None:
    async def body(caller: Caller) -> None:
        answered = await get(caller, "/quota")
        assert answered["usage"] == {"current_devices": 0, "messages_this_month": 0, "bandwidth_used_gb": 0.0}
        assert answered["percentage_used"] == {"devices": 0.0, "messages": 0.0, "bandwidth": 0.0}
        assert answered["reset_date"] == "2025-12-01T00:00:00Z"

    run(body)


@pytest.mark.parametrize(
    ("plan", "limits"),
    [("free", [100, 1_000_000, 10, 102, 10]), ("unlimited", [10**9, 10**12, 10**9, 1024, 1_000_000])],
)
def test_other_plans_have_numbers_in_every_place(plan: str, limits: list[int]) -> None:
    async def body(caller: Caller) -> None:
        await caller.upper.admin.operator.set_plan("default", plan)
        count(caller, None, 3, 2)
        answered = await get(caller, "/quota")
        assert answered["plan"] == plan
        assert list(answered["limits"].values()) == limits
        assert (answered["current_messages"], answered["current_bandwidth_gb"]) == (3, 2e-9)

    run(body)


def test_percentages_have_one_decimal_and_go_on_behind_100() -> None:
    async def body(caller: Caller) -> None:
        await caller.upper.admin.operator.set_plan("default", "free")
        count(caller, None, 1_000_400, 33 * GB)
        answered = await get(caller, "/quota")
        assert answered["percentage_used"] == {"devices": 0.0, "messages": 100.0, "bandwidth": 330.0}
        assert answered["current_bandwidth_gb"] == 33.0

    run(body)


@pytest.mark.parametrize(
    ("moment", "first"),
    [
        ((2025, 11, 30, 23, 59, 59), "2025-12-01T00:00:00Z"),
        ((2025, 12, 1, 0, 0, 0), "2026-01-01T00:00:00Z"),
        ((2028, 2, 29, 12, 0, 0), "2028-03-01T00:00:00Z"),
    ],
)
def test_the_quota_begins_anew_on_the_first_of_the_next_month(moment: tuple[int, ...], first: str) -> None:
    async def body(caller: Caller) -> None:
        count(caller, None, 5, 5)
        caller.upper.counting.count_at_once()
        caller.upper.clock.wall = int(datetime(*moment, tzinfo=UTC).timestamp())  # type: ignore[misc]
        answered = await get(caller, "/quota")
        assert answered["reset_date"] == first
        assert answered["current_messages"] == (0 if moment[:2] != (2025, 11) else 5)

    run(body)


def test_a_clock_that_was_set_back_resets_nothing_early() -> None:
    async def body(caller: Caller) -> None:
        clock = caller.upper.clock
        clock.wall = int(datetime(2025, 12, 1, tzinfo=UTC).timestamp())
        count(caller, None, 5, 5)
        caller.upper.counting.count_at_once()
        clock.wall -= 1
        assert (await get(caller, "/quota"))["reset_date"] == "2026-01-01T00:00:00Z"
        clock.wall += 1
        answered = await get(caller, "/quota")
        assert (answered["reset_date"], answered["current_messages"]) == ("2026-01-01T00:00:00Z", 5)
        clock.wall += 3 * 366 * DAY_S  # years ahead, and back
        await get(caller, "/quota")
        clock.wall -= 3 * 366 * DAY_S
        assert (await get(caller, "/quota"))["reset_date"] == "2026-01-01T00:00:00Z"
        clock.wall = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp())
        assert (await get(caller, "/quota"))["reset_date"] == "2026-02-01T00:00:00Z"

    run(body)


# ---------------------------------------------------------------- usage


def at(clock: FakeClock, day: date) -> None:
    clock.wall = int(datetime(day.year, day.month, day.day, 10, 30, tzinfo=UTC).timestamp())


def test_usage_is_exact_by_day_and_device() -> None:
    async def body(caller: Caller) -> None:
        one, other = await caller.create(name="One"), await caller.create(name="Other")
        await caller.create(name="Silent")
        for day, rows in {
            date(2025, 11, 1): [(one, 4, 4_000_001)],
            date(2025, 11, 2): [(one, 2, 20), (other, 10, 10), (None, 1, 1)],
            date(2025, 11, 4): [(None, 7, 3_500_000)],
        }.items():
            at(caller.upper.clock, day)
            caller.upper.counting.count_at_once()
            for device, messages, size in rows:
                count(caller, device and device["device_id"], messages, size)
            caller.upper.counting.count_at_once()
        at(caller.upper.clock, TODAY)
        answered = await get(caller, "/usage")
        assert answered["period"] == {"start_date": "2025-10-29", "end_date": "2025-11-05"}
        assert answered["summary"] == {
            "total_messages": 24,
            "total_bandwidth_mb": 7.500032,
            "active_devices": 2,
            "total_devices": 3,
        }
        days = answered["daily_breakdown"]
        assert [day["date"] for day in days] == [(TODAY - timedelta(n)).isoformat() for n in range(8)]
        assert days[1] == {"date": "2025-11-04", "messages": 7, "bandwidth_mb": 3.5, "active_devices": 0}
        assert days[3] == {"date": "2025-11-02", "messages": 13, "bandwidth_mb": 3.1e-05, "active_devices": 2}
        assert days[4] == {"date": "2025-11-01", "messages": 4, "bandwidth_mb": 4.000001, "active_devices": 1}
        assert answered["top_devices"] == [
            {"device_id": other["device_id"], "name": "Other", "messages": 10, "bandwidth_mb": 1e-05},
            {"device_id": one["device_id"], "name": "One", "messages": 6, "bandwidth_mb": 4.000021},
        ]
        short = await get(caller, "/usage", start_date="2025-11-02", end_date="2025-11-02", device_id=one["device_id"])
        assert short == {
            "period": {"start_date": "2025-11-02", "end_date": "2025-11-02"},
            "summary": {
                "total_messages": 2,
                "total_bandwidth_mb": 2e-05,
                "active_devices": 1,
                "total_devices": 1,
            },
            "daily_breakdown": [{"date": "2025-11-02", "messages": 2, "bandwidth_mb": 2e-05, "active_devices": 1}],
            "top_devices": [{"device_id": one["device_id"], "name": "One", "messages": 2, "bandwidth_mb": 2e-05}],
        }

    run(body)


def test_a_silent_device_has_days_and_no_place_among_the_top() -> None:
    async def body(caller: Caller) -> None:
        device = await caller.create()
        answered = await get(caller, "/usage", device_id=device["device_id"])
        assert answered["summary"] == {
            "total_messages": 0,
            "total_bandwidth_mb": 0.0,
            "active_devices": 0,
            "total_devices": 1,
        }
        assert len(answered["daily_breakdown"]) == 8
        assert answered["top_devices"] == []

    run(body)


def test_what_was_counted_a_moment_ago_is_in_the_answer_even_while_the_disk_takes_nothing() -> None:
    async def body(caller: Caller) -> None:
        count(caller, None, 2, 2)
        assert (await get(caller, "/usage"))["summary"]["total_messages"] == 2
        count(caller, None, 3, 3)
        caller.upper.store.fail(OSError("no space left"))
        assert (await get(caller, "/quota"))["current_messages"] == 5
        assert (await get(caller, "/usage"))["summary"]["total_messages"] == 5
        caller.upper.store.fail(None)
        assert (await get(caller, "/usage"))["summary"]["total_messages"] == 5
        caller.upper.store._range = lambda *_: (_ for _ in ()).throw(StoreError("gone"))  # type: ignore[method-assign]
        assert_error(await caller.http.get("/v1/iot/usage"), 503, "UNAVAILABLE")

    run(body)


def test_damaged_rows_are_passed_over_and_the_rest_is_answered(caplog: pytest.LogCaptureFixture) -> None:
    async def body(caller: Caller) -> None:
        device = await caller.create()
        number = caller.upper.directory.devices.get(1, device["device_id"]).device_number
        rows = caller.upper.store._tables[DAILY]
        day = NOW_S // DAY_S
        count(caller, device["device_id"], 4, 4)
        assert await caller.upper.counting.settle()
        rows[day_key(1, day - 1, ALL)] = rows[day_key(1, day - 1, number)] = b"\xc1"
        rows[day_key(1, day - 2, ALL)] = rows[day_key(1, day - 2, number)] = encode_day((1,))
        for query in ({}, {"device_id": device["device_id"]}):
            assert (await get(caller, "/usage", **query))["summary"]["total_messages"] == 4
        rows[day_key(1, day, ALL)] = b""
        assert (await get(caller, "/stats"))["messages"]["today"] == 0

    run(body)
    assert caplog.text.count("passed over") == 7


def test_a_deleted_device_stays_in_the_days_and_is_not_named() -> None:
    async def body(caller: Caller) -> None:
        device = await caller.create()
        count(caller, device["device_id"], 4, 4)
        caller.upper.counting.count_at_once()
        await caller.http.delete(f"/v1/iot/devices/{device['device_id']}")
        answered = await get(caller, "/usage")
        assert list(answered["summary"].values()) == [4, 4e-06, 1, 0]
        assert answered["top_devices"] == []
        assert_error(await caller.http.get(f"/v1/iot/usage?device_id={device['device_id']}"), 404, "NOT_FOUND")

    run(body)


def test_ten_devices_are_on_top_most_messages_first() -> None:
    async def body(caller: Caller) -> None:
        devices = [(await caller.create(name=f"Device {n}"))["device_id"] for n in range(13)]
        for number, device_id in enumerate(devices):
            count(caller, device_id, 100 - number // 2, 50 + number)
        answered = await get(caller, "/usage")
        expected = sorted(range(13), key=lambda n: (100 - n // 2, 50 + n), reverse=True)[:10]
        assert [one["name"] for one in answered["top_devices"]] == [f"Device {n}" for n in expected]
        assert answered["summary"]["active_devices"] == 13

    run(body)


def test_the_printed_period_and_the_longest_one_are_answered_and_pages_change_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("broker.accounts.history.PAGE_ROWS", 2)

    async def body(caller: Caller) -> None:
        devices = [(await caller.create())["device_id"] for _ in range(5)]
        for days_ago in (0, 1, 399):
            at(caller.upper.clock, TODAY - timedelta(days_ago))
            caller.upper.counting.count_at_once()
            for device_id in devices:
                count(caller, device_id, 2, 2)
            caller.upper.counting.count_at_once()
        at(caller.upper.clock, TODAY)
        printed = await get(caller, "/usage", start_date="2025-10-29", end_date="2025-11-05")
        assert (printed["summary"]["total_messages"], printed["summary"]["active_devices"]) == (20, 5)
        start = (TODAY - timedelta(399)).isoformat()
        whole = await get(caller, "/usage", start_date=start)
        assert (whole["summary"]["total_messages"], len(whole["daily_breakdown"])) == (30, KEPT_DAYS)
        future = await get(caller, "/usage", start_date="2025-11-05", end_date="2026-11-05")
        assert future["summary"]["total_messages"] == 10
        first = await get(caller, "/usage", end_date="1970-01-03")
        assert first["period"]["start_date"] == "1970-01-01"
        last = await get(caller, "/usage", end_date="9999-12-31")
        assert last["daily_breakdown"][0]["date"] == "9999-12-31"

    run(body)


WRONG_DATES = [
    "2025-13-01",
    "2025-02-29",
    "2025-11-5",
    "20251105",
    "2025-W45-3",
    "2025-11-05T00:00:00Z",
    "05.11.2025",
    "yesterday",
    "1",
    "-1",
    "1969-12-31",
    "0001-01-01",
    "10000-01-01",
    "2025-11-05 ",
    " 2025-11-05",
    "+2025-11-05",
    "٢٠٢٥-١١-٠٥",  # noqa: RUF001 - digits of another script
    "2025-11-05\x00",
    "null",
    "x" * 5000,
]


@pytest.mark.parametrize("field", ["start_date", "end_date"])
@pytest.mark.parametrize("wrong", WRONG_DATES)
def test_what_is_no_date_is_refused_by_name(field: str, wrong: str) -> None:
    async def body(caller: Caller) -> None:
        answer = await caller.http.get("/v1/iot/usage", params={field: wrong})
        assert_error(answer, 400, "INVALID_PARAMETER", field)
        details = answer.json()["error"]["details"]
        assert details["expected"] == "a date as YYYY-MM-DD, from 1970-01-01 on"
        assert details["provided"].startswith(wrong[:100])

    run(body)


@pytest.mark.parametrize(
    ("query", "field", "expected"),
    [
        ("start_date=2025-11-06", "start_date", "a date that is not after the end, 2025-11-05"),
        ("start_date=2025-11-02&end_date=2025-11-01", "start_date", "a date that is not after the end, 2025-11-01"),
        ("start_date=2024-10-01", "start_date", "at most 400 days until the end, 2025-11-05"),
        ("start_date=2024-10-01&end_date=2025-11-05", "start_date", "at most 400 days until the end, 2025-11-05"),
        ("start_date=1970-01-01&end_date=9999-12-31", "start_date", "at most 400 days until the end, 9999-12-31"),
        ("days=7", "days", "no such field"),
        ("start=2025-11-01", "start", "no such field"),
        ("start_date=2025-11-01&start_date=2025-11-02", "start_date", "one value"),
        ("device_id=" + "d" * 65, "device_id", "at most 64 characters"),
    ],
)
def test_a_wrong_period_or_parameter_is_refused_by_name(query: str, field: str, expected: str) -> None:
    async def body(caller: Caller) -> None:
        answer = await caller.http.get("/v1/iot/usage?" + query)
        assert_error(answer, 400, "INVALID_PARAMETER", field)
        assert answer.json()["error"]["details"]["expected"] == expected

    run(body)


@pytest.mark.parametrize("device_id", ["nobody", "../x", "%00", "bulk", "a b"])
def test_a_device_that_is_not_there_is_not_found(device_id: str) -> None:
    async def body(caller: Caller) -> None:
        assert_error(await caller.http.get("/v1/iot/usage", params={"device_id": device_id}), 404, "NOT_FOUND")

    run(body)


def test_nobody_sees_another_accounts_figures() -> None:
    async def body(caller: Caller) -> None:
        device = await caller.create()
        count(caller, device["device_id"], 4, 4)
        await caller.upper.admin.operator.create_account("other", "free")
        _, key = await caller.upper.admin.operator.create_key("other", "k")
        theirs = {"Authorization": f"Bearer {key}"}
        answer = await caller.http.get(f"/v1/iot/usage?device_id={device['device_id']}", headers=theirs)
        assert_error(answer, 404, "NOT_FOUND")
        for path, place in (("/usage", "summary"), ("/quota", "usage"), ("/stats", "messages")):
            found = (await caller.http.get("/v1/iot" + path, headers=theirs)).json()
            assert not any(found[place].values()), path

    run(body)


@pytest.mark.parametrize("path", ["/quota", "/stats"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_figures_are_read_only_and_take_no_parameter(path: str, method: str) -> None:
    async def body(caller: Caller) -> None:
        answer = await caller.http.request(method, "/v1/iot" + path)
        assert_error(answer, 405, "METHOD_NOT_ALLOWED")
        assert answer.headers["allow"] == "GET, HEAD"
        assert_error(await caller.http.get(f"/v1/iot{path}?limit=1"), 400, "INVALID_PARAMETER", "limit")
        bare = await caller.http.get("/v1/iot" + path, headers={"Authorization": "Bearer nothing"})
        assert_error(bare, 401, "AUTH_FAILED")

    run(body)


# ---------------------------------------------------------------- stats


def test_stats_have_every_figure_of_the_contract() -> None:
    async def body(caller: Caller) -> None:
        upper = caller.upper
        one, other, third = [await caller.create(name=f"Device {n}") for n in range(3)]
        await caller.http.patch(f"/v1/iot/devices/{third['device_id']}", json={"status": "inactive", "type": "gateway"})
        number = {
            device["device_id"]: upper.directory.devices.get(1, device["device_id"]).device_number
            for device in (one, other, third)
        }
        upper.core.present[number[one["device_id"]]] = Presence(1, upper.clock.monotonic)
        upper.core.standings[number[one["device_id"]]] = Standing(1, 2, 3)
        application = next(key for key in upper.directory.keys.all() if key.name == "default")
        upper.core.standings[application.principal_id] = Standing(1, 1, 40)
        upper.directory.devices.sightings.note_refused(number[other["device_id"]], upper.clock.monotonic / 10**9)
        upper.core.account_standings[1] = AccountStanding((1, 2, 0, 4), 9, 5, 600)
        count(caller, one["device_id"], 10, 2_500_000)
        upper.core.counted.append((1, None, 15, 5, 0, 0))
        answered = await get(caller, "/stats")
        assert answered == {
            "devices": {"total": 3, "active": 1, "inactive": 1, "error": 1, "online": 1},
            "connections": {"current": 7, "peak_today": 9, "by_protocol": {"mqtt": 1, "mqtts": 2, "ws": 0, "wss": 4}},
            "messages": {"today": 25, "this_month": 25, "per_second_in": 4.0, "per_second_out": 1.0},
            "bandwidth": {"today_mb": 2.500005, "this_month_gb": 0.002500005},
            "retained": {"count": 5, "bytes": 600},
            "sessions": {"persistent": 3, "queued_messages": 43},
            "by_type": {"sensor": 2, "actuator": 0, "gateway": 1, "other": 0},
            "updated_at": "2025-11-05T10:30:00Z",
        }
        upper.clock.pass_s(6)
        upper.core.account_standings[1] = AccountStanding()
        later = await get(caller, "/stats")
        assert later["connections"]["peak_today"] == 9  # of before a restart
        assert later["messages"] == {"today": 25, "this_month": 25, "per_second_in": 0.0, "per_second_out": 0.0}
        upper.clock.pass_s(DAY_S)
        tomorrow = await get(caller, "/stats")
        assert (tomorrow["connections"]["peak_today"], tomorrow["messages"]["today"]) == (0, 0)
        assert tomorrow["messages"]["this_month"] == 25

    run(body)


def test_the_peak_of_a_day_outlives_a_restart() -> None:
    async def body(caller: Caller) -> None:
        caller.upper.core.account_standings[1] = AccountStanding((3, 0, 0, 0), 8)
        count(caller, None, 1, 1)
        assert await caller.upper.counting.keep()
        found = caller.upper.restart()
        assert (await found.admin.figures.stats(1)).connections_peak_today == 8

    run(body)


def test_more_kinds_of_devices_than_are_told_are_others() -> None:
    async def body(caller: Caller) -> None:
        for number in range(49):
            answer = await caller.http.post("/v1/iot/devices", json={"name": "Device", "device_type": f"kind {number}"})
            assert answer.status_code == 201
        found = (await get(caller, "/stats"))["by_type"]
        assert (len(found), found["other"], sum(found.values())) == (50, 3, 49)

    run(body)


def test_very_many_devices_are_looked_at_once_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures_module, "FRESH_DEVICES", 1)
    monkeypatch.setattr(figures_module, "SLICE_DEVICES", 1)

    async def body(caller: Caller) -> None:
        for _ in range(3):
            await caller.create()
        answers = await asyncio.gather(*(get(caller, "/stats") for _ in range(5)))
        assert [one["devices"]["total"] for one in answers] == [3] * 5
        await caller.create()
        assert (await get(caller, "/stats"))["devices"]["total"] == 3
        caller.upper.clock.pass_s(2)
        assert (await get(caller, "/stats"))["devices"]["total"] == 4

    run(body)


def test_times_are_told_as_everywhere() -> None:
    async def body(caller: Caller) -> None:
        assert TIMESTAMP.fullmatch((await get(caller, "/stats"))["updated_at"])
        assert TIMESTAMP.fullmatch((await get(caller, "/quota"))["reset_date"])
        assert caller.upper.core.day == (TODAY - date(1970, 1, 1)).days == NOW_S // DAY_S
        assert caller.upper.store.load(DAILY) == []
        assert ALL > 2**31

    run(body)
