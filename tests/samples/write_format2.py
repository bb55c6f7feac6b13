"""Write a data directory of format 2, and die: as format 1, and one queue is long.

    python -P tests/samples/write_format2.py FOLDER

Not here: anything of later versions. ``make`` runs this. What was written is in ``expected.json`` beside it.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from broker.testing import BrokerUnderTest
from tests.integration.wire import Client
from tests.samples import write_format1

MORE = 100


def fill(broker: BrokerUnderTest) -> dict[str, Any]:
    told = write_format1.fill(broker)
    # Of QoS 2, as the last one there: each QoS has an order of its own.
    more = [f"more {number}" for number in range(MORE)]
    with Client(broker.direct_port).login("apikey", broker.api_key, "another back end") as application:
        for number, payload in enumerate(more):
            write_format1.send_qos2(application, "devices/pump-7/commands", payload.encode(), number + 1)
    told["sessions"]["queued"]["pump-7"] += more
    return {**told, "format": 2}


if __name__ == "__main__":
    where = Path(sys.argv[1])
    written = fill(BrokerUnderTest(where).start())
    (where / "expected.json").write_text(json.dumps(written, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os._exit(0)  # as a crash: nothing is flushed, nobody is told
