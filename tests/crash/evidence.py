"""What lies on disk after a death: kept for whoever looks into a failure, and checked as an operator would.

Here belong copies of data directories, ``iot-broker store check`` and the usage that was written. Not here: what
clients can see.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import lmdb

from broker.accounts.days import ALL, DAY_FIGURES, decode_day
from broker.accounts.records import UsedInMonth
from broker.storage.tables import DAILY, USAGE, day_key_parts, key_number
from tests.crash.brokers import IotBroker, Target
from tests.crash.ledger import STORE_DAMAGED, USAGE_WRONG, Ledger

SAMPLE = Path(__file__).resolve().parents[1] / "samples" / "format0"
IN_FLIGHT = 1_000
"""More than the broker can have sent at one time without our reading it."""
DEFAULT_ACCOUNT = 1


def copy_data(source: Path, target: Path) -> None:
    """Copy a data directory, or what is to become one."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.sock", "expected.json"))


def remember(target: Target) -> None:
    """Keep the data directory as a kill has left it."""
    copy_data(target.data_dir, target.folder / "killed")


def sample_key() -> str:
    """The API key of the stored sample of format 0."""
    key: str = json.loads((SAMPLE / "expected.json").read_text())["keys"]["default"]
    return key


def sample_devices() -> list[str]:
    """The devices of the sample's account."""
    devices = json.loads((SAMPLE / "expected.json").read_text())["devices"]
    return [one["device_id"] for one in devices if one["account"] == "default"]


async def check_store(target: IotBroker, ledger: Ledger) -> None:
    """Let ``store check`` look at a store whose broker was killed."""
    code, said = await target.run("store", "check", "--data-dir", str(target.data_dir))
    ledger.counts["stores checked"] += 1
    if code:
        ledger.find(STORE_DAMAGED, said[-1000:])


def check_usage(target: Target, ledger: Ledger, kills: int) -> None:
    """Compare the usage on disk with what was sent and received."""
    with lmdb.open(str(target.data_dir / "store"), readonly=True, lock=False, max_dbs=32) as environment:
        table = environment.open_db(USAGE.encode(), create=False)
        with environment.begin(db=table) as transaction:
            rows = {key_number(bytes(key)): UsedInMonth.decode(bytes(value)) for key, value in transaction.cursor()}
        table = environment.open_db(DAILY.encode(), create=False)
        with environment.begin(db=table) as transaction:
            days = {day_key_parts(bytes(key)): decode_day(bytes(value)) for key, value in transaction.cursor()}
    used = rows[DEFAULT_ACCOUNT].messages if DEFAULT_ACCOUNT in rows else 0
    most = ledger.counts["PUBLISH sent"] + ledger.counts["PUBLISH received"] + IN_FLIGHT * (kills + 1)
    ledger.counts["usage checked"] += 1
    if used > most:
        ledger.find(USAGE_WRONG, f"{used} messages on disk, at most {most} were sent")
    for account_id, day, number in days:
        if number == ALL:
            parts = [row for key, row in days.items() if key[:2] == (account_id, day) and key[2] != ALL]
            total = days[account_id, day, ALL][:DAY_FIGURES]
            if total != tuple(map(sum, zip(*parts, strict=True))):
                ledger.find(USAGE_WRONG, f"day {day} of account {account_id} is not the sum of its devices")


def keep(target: Target, ledger: Ledger, where: Path) -> None:
    """Move what a failed campaign has left to where it stays, with what was found."""
    shutil.rmtree(where, ignore_errors=True)
    where.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(target.folder, where)
    told = [{"kind": one.kind, "text": one.text} for one in ledger.findings]
    (where / "findings.json").write_text(json.dumps(told, indent=1) + "\n")
