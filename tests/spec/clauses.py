"""Which normative statements of MQTT no test names: ``python -m tests.spec.clauses [--write]``.

Here belong reading the statements and finding their names in the tests. Not here: judging whether a test is good.
"""

from __future__ import annotations

import argparse
import ast
import csv
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
TESTS = HERE.parent
UNCOVERED = HERE / "uncovered.txt"
NOT_APPLICABLE = HERE / "not_applicable.txt"
VERSIONS = {"v5": HERE / "mqtt5.tsv", "v311": HERE / "mqtt311.tsv"}
NAME = re.compile(r"\bv(?:5|311):MQTT-\d+\.\d+\.\d+-\d+\b")
NOT_TESTABLE = "not a server test"


def load_statements() -> dict[str, str]:
    """Every statement that a server's tests can show, by its name with the version, and how it is seen."""
    return {name: seen for name, seen in all_statements() if NOT_TESTABLE not in seen}


def all_statements() -> Iterator[tuple[str, str]]:
    """Every statement of both versions: name and observable."""
    for version, path in VERSIONS.items():
        with path.open(encoding="utf-8", newline="") as lines:
            for row in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE):
                yield f"{version}:{row['id']}", row["observable"]


def named_in_python(source: str) -> set[str]:
    """Statements named in a test's strings: markers and docstrings, but not comments."""
    strings = (node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant))
    return {name for text in strings if isinstance(text, str) for name in NAME.findall(text)}


@cache
def named_in_tests(tests: Path = TESTS) -> dict[str, set[str]]:
    """Every statement that a test names, and the files that do."""
    found: dict[str, set[str]] = {}
    for path in sorted(tests.rglob("*.py")):
        if HERE in path.parents:
            continue
        for name in named_in_python(path.read_text(encoding="utf-8")):
            found.setdefault(name, set()).add(str(path.relative_to(tests)))
    for path in sorted(tests.glob("packets/*.toml")):
        for name in named_in_rows(path.read_text(encoding="utf-8")):
            found.setdefault(name, set()).add(str(path.relative_to(tests)))
    return found


def named_in_rows(source: str) -> set[str]:
    """Statements that rows of the wire table name as theirs."""
    rows = tomllib.loads(source).get("row", [])
    return {name for row in rows for name in row.get("clauses", ())}


def find_uncovered() -> list[str]:
    """Testable statements that nothing names, in the order of the standards."""
    named = named_in_tests()
    return [name for name in load_statements() if name not in named and name not in not_applicable()]


def not_applicable() -> dict[str, str]:
    """Statements about what this broker does not do, and why it does not."""
    lines = NOT_APPLICABLE.read_text(encoding="utf-8").splitlines()
    return dict(line.split(" ", 1) for line in lines if not line.startswith("#"))


def load_uncovered() -> list[str]:
    """The statements that were uncovered when the list was last written."""
    return [line for line in UNCOVERED.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]


def write_uncovered(names: list[str]) -> None:
    """Write the list with its heading."""
    heading = "# Statements without a test. May only shrink; written by: python -m tests.spec.clauses --write\n"
    UNCOVERED.write_text(heading + "".join(f"{name}\n" for name in names), encoding="utf-8")


def main() -> int:
    """Print what is missing, or shorten the list; 1 when the list would have to grow."""
    parser = argparse.ArgumentParser(prog="python -m tests.spec.clauses", description=__doc__)
    parser.add_argument("--write", action="store_true", help="take what is covered now off uncovered.txt")
    options = parser.parse_args()
    statements, uncovered = load_statements(), find_uncovered()
    lost = sorted(set(uncovered) - set(load_uncovered()))
    if options.write and not lost:
        write_uncovered(uncovered)
    for name in lost if options.write else uncovered:
        sys.stdout.write(f"{name}\t{statements[name]}\n")
    applicable = len(statements) - len(not_applicable())
    sys.stdout.write(f"{applicable - len(uncovered)} of {applicable} statements are named by a test\n")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
