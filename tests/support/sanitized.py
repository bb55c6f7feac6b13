"""Whether the core that is tested runs under the sanitizers, where memory costs fifty times what it does otherwise."""

from __future__ import annotations

import os

SANITIZED = os.environ.get("IOT_BROKER_BUILD") == "sanitize"
