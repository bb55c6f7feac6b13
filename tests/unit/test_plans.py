"""Plans, and the limits that follow from them."""

from __future__ import annotations

import asyncio

import pytest

from broker._core.shard import ACCOUNT_LIMITS, GRANT_LIMITS
from broker.accounts.device_description import DeviceDescription
from broker.accounts.plans import PLANS
from broker.errors import NotFound
from broker.ports import AccountLimits, GrantLimits
from tests.upper import NOW_S, Upper

SENSOR = DeviceDescription("Sensor", "sensor", device_id="probe")


def test_the_ports_figures_are_the_cores_in_its_order() -> None:
    assert GrantLimits._fields == GRANT_LIMITS
    assert AccountLimits._fields == ACCOUNT_LIMITS


def test_the_professional_plan_is_the_contracts() -> None:
    plan = PLANS["professional"]
    assert (plan.devices_maximum, plan.messages_per_month, plan.bytes_per_month) == (1000, 10_000_000, 100 * 10**9)
    assert (plan.payload_maximum_bytes, plan.connections_maximum, plan.applications_reserved) == (1_048_576, 1000, 50)
    assert (plan.device_messages_per_s, plan.device_burst_messages) == (100, 200)
    assert (plan.device_connections_maximum, plan.device_sessions_maximum) == (5, 5)
    assert (plan.device_subscriptions_maximum, plan.device_retained_maximum) == (100, 100)


def test_a_device_and_an_application_get_their_plans_limits_and_a_new_plan_reaches_both() -> None:
    async def body() -> None:
        upper = Upper()
        await upper.bootstrap()
        device, _ = await upper.directory.devices.create(1, SENSOR, NOW_S)
        assert upper.core.grants[device.digest].limits.messages_per_s == 100
        assert upper.core.accounts[1].connections_maximum == 1000
        await upper.admin.operator.set_plan("default", "free")
        limits = upper.core.grants[device.digest].limits
        assert (limits.messages_per_s, limits.payload_maximum_bytes) == (10, 104_857)
        assert {grant.limits.payload_maximum_bytes for grant in upper.core.grants.values()} == {104_857}
        assert [grant.limits.messages_per_s for grant in upper.core.grants.values() if not grant.device_id] == [0]
        assert upper.core.accounts[1].connections_maximum == 100
        assert upper.core.quotas[1] == (1_000_000, 10 * 10**9)
        assert upper.core.removed == []  # nobody was cut
        assert upper.restart().core.accounts == upper.core.accounts

    asyncio.run(body())


def test_an_inactive_device_is_cut_and_an_active_one_let_in_again() -> None:
    async def body() -> None:
        upper = Upper()
        await upper.bootstrap()
        device, password = await upper.directory.devices.create(1, SENSOR, NOW_S)
        inactive = await upper.directory.devices.set_active(1, "probe", False, NOW_S + 1)
        assert (inactive.active, inactive.updated_at) == (False, NOW_S + 1)
        assert upper.core.removed == [device.digest]
        assert upper.core.ended == []  # its sessions wait
        assert upper.directory.grant_for(device.user_name, password.encode()) is None
        assert device.digest not in upper.reloaded().core.grants
        await upper.directory.devices.set_active(1, "probe", True, NOW_S + 2)
        assert device.digest in upper.core.grants
        assert upper.reloaded().directory.devices.get(1, "probe").active

    asyncio.run(body())


def test_a_deleted_device_is_ended_after_its_credential() -> None:
    async def body() -> None:
        upper = Upper()
        await upper.bootstrap()
        device, _ = await upper.directory.devices.create(1, SENSOR, NOW_S)
        leaving = asyncio.create_task(upper.directory.devices.delete(1, "probe"))
        await asyncio.sleep(0)
        with pytest.raises(NotFound):
            await upper.directory.devices.set_active(1, "probe", False, NOW_S)
        await leaving
        assert (upper.core.removed, upper.core.ended) == ([device.digest], [device.device_number])
        with pytest.raises(NotFound):
            await upper.directory.devices.set_active(1, "probe", False, NOW_S)

    asyncio.run(body())
