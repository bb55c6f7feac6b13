"""The native reason codes are those of ``broker.reasons``: two lists that may not drift apart."""

from __future__ import annotations

import re
from importlib.resources import files

from broker.reasons import ReasonCode


def test_native_and_python_reason_codes_agree() -> None:
    source = files("broker._core").joinpath("reasons.pxd").read_text(encoding="utf-8")
    native = {name: int(value, 16) for name, value in re.findall(r"^    ([A-Z0-9_]+) = (0x[0-9A-F]{2})$", source, re.M)}
    assert native == {code.name: code.value for code in ReasonCode}
