"""The normative statements without a test become fewer, never more."""

from __future__ import annotations

from tests.spec.clauses import (
    all_statements,
    find_uncovered,
    load_statements,
    load_uncovered,
    named_in_python,
    named_in_rows,
    named_in_tests,
    not_applicable,
)


def test_no_statement_loses_its_last_test() -> None:
    assert sorted(set(find_uncovered()) - set(load_uncovered())) == []


def test_a_statement_with_a_test_leaves_the_list() -> None:
    covered = sorted(set(load_uncovered()) - set(find_uncovered()))
    assert covered == [], "run: python -m tests.spec.clauses --write"


def test_tests_name_only_statements_that_exist() -> None:
    known = {name for name, _ in all_statements()}
    assert {name: files for name, files in named_in_tests().items() if name not in known} == {}


def test_what_does_not_apply_is_testable_elsewhere_has_a_reason_and_is_named_by_no_test() -> None:
    listed = not_applicable()
    assert set(listed) <= set(load_statements())
    assert all(listed.values())
    assert {name for name in listed if name in named_in_tests()} == set()


def test_the_statements_are_all_there() -> None:
    names = [name for name, _ in all_statements()]
    assert len(set(names)) == len(names) == 251 + 141
    testable = load_statements()
    assert len([name for name in testable if name.startswith("v5:")]) == 240
    assert len([name for name in testable if name.startswith("v311:")]) == 137


def test_names_count_in_markers_and_docstrings_but_not_in_comments() -> None:
    prefix, version = "MQTT-1.5.4", "v5:"  # put together here, so that this file names nothing itself
    source = (
        f'@pytest.mark.clause("{version}{prefix}-1")\n'
        "def test_a():\n"
        f'    """Shows {version}{prefix}-2."""\n'
        f"    # not {version}{prefix}-3\n"
    )
    assert named_in_python(source) == {f"{version}{prefix}-1", f"{version}{prefix}-2"}


def test_names_count_in_rows_of_the_wire_table_but_not_in_their_comments() -> None:
    prefix = "v5:MQTT-1.5.4"  # put together here, so that this file names nothing itself
    source = f"""
        # not {prefix}-3
        [[row]]
        clauses = ["{prefix}-1"]
        [[row]]
        section = "5.0 1.5, {prefix}-2"
    """
    assert named_in_rows(source) == {f"{prefix}-1"}
