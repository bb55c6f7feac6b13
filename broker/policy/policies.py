"""The rights of each kind of principal, as topic filters: the contract's table of topics.

Here belongs who may publish and subscribe where. Not here: the matching, which the core does per message. Topics that
begin with ``$`` are refused to every publisher by the core, whatever stands here.
"""

from __future__ import annotations

from broker.ports import Policy

# "/#" matches its parent level too: devices/x/telemetry, and everything below it.
DEVICE = Policy(
    name="device",
    publish=(
        "devices/{device_id}/telemetry/#",
        "devices/{device_id}/events/#",
        "devices/{device_id}/status/#",
    ),
    subscribe=(
        "devices/{device_id}/commands/#",
        "devices/{device_id}/config/#",
        "devices/{device_id}/firmware/#",
    ),
)

# Only the broker itself says who is present: stands before all that an application may publish.
NOBODY_IS_PRESENT = "!devices/+/presence"

# An application's whose key has all of its account; of other keys see ``key_rights``. "#" matches no topic with `$`.
APPLICATION = Policy(name="application", publish=(NOBODY_IS_PRESENT, "#"), subscribe=("#", "$SYS/#"))
