"""What a change of a device means for how it logs in, in the timeline's codes.

Here belongs the comparison of two records of one device. Not here: sentences (``timeline_words``).
"""

from __future__ import annotations

from broker.accounts.records import Device


def codes_of_change(before: Device, after: Device) -> list[str]:
    """Give a code for each change that decides about logins; nothing for names and the like."""
    found = []
    if after.digest != before.digest:
        found.append("password_rotated")
    elif before.previous_digest and not after.previous_digest:
        found.append("password_ended")
    if after.active != before.active:
        found.append("activated" if after.active else "deactivated")
    if after.certificate_fingerprint != before.certificate_fingerprint:
        found.append("certificate_bound" if after.certificate_fingerprint else "certificate_unbound")
    return found
