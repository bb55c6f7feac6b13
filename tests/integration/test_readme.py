"""The README at its word: its program for embedders is run as it is printed, but for the data directory."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

from tests.integration.wire import V5, Client

README = Path(__file__).resolve().parents[2] / "README.md"
LISTENERS = 2


def test_the_printed_program_embeds_a_broker(tmp_path: Path) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert "/tmp/embedded-broker" in program
    file = tmp_path / "embedder.py"
    file.write_text(program.replace("/tmp/embedded-broker", str(tmp_path / "data")))
    running = subprocess.Popen([sys.executable, "-P", "-u", str(file)], stdout=subprocess.PIPE, text=True)
    try:
        assert running.stdout is not None
        endpoints = dict(running.stdout.readline().split(" ", 1) for _ in range(LISTENERS))
        assert set(endpoints) == {"mqtt", "http"}
        with Client(int(endpoints["mqtt"].split()[1]), V5) as client:
            client.login("anybody", "anything")
        running.send_signal(signal.SIGTERM)
        assert running.wait(10) == 0
    finally:
        running.kill()
        running.wait()
        if running.stdout is not None:
            running.stdout.close()
