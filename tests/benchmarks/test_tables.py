"""Tables show medians with ranges, and say what was not measured."""

from benchmarks.ratios import Case
from benchmarks.tables import cell, effort_cell, figures, ratio_table, spread

from tests.benchmarks.rows import row

ROWS = [row("viewstamp-raft", 1, 300.0), row("viewstamp-raft", 2, 500.0), row("viewstamp-raft", 3, 450.0)]


def test_cell_shows_the_median_and_the_range_when_rounds_differ() -> None:
    assert cell(ROWS, "viewstamp-raft", Case("writes", 64)) == "450 (300-500); 0.10 / 1.0 ms"
    assert spread([2.0, 2.0], ".1f") == "2.0"


def test_cell_is_empty_when_nothing_was_measured() -> None:
    assert cell(ROWS, "etcd", Case("writes", 64)) == "-"


def test_table_has_a_line_for_each_number_of_clients() -> None:
    rows = [*ROWS, row("etcd", 1, 10.0, clients=256)]
    assert [line.split(" | ")[0] for line in figures(rows, "writes", 32).splitlines()[2:]] == [
        "| 64",
        "| 256",
    ]


def test_effort_is_processor_time_for_an_operation() -> None:
    rows = [row("etcd", 1, 1000.0), row("etcd", 2, 0.0), row("etcd", 3, 1000.0)]
    assert effort_cell(rows, "etcd", Case("writes", 64)) == "1,000 + 500"
    assert effort_cell(rows, "pipe", Case("writes", 64)) == "-"


def test_missed_ratio_stands_out() -> None:
    rows = [row("viewstamp-raft", 1, 200.0), row("etcd", 1, 100.0)]
    (line,) = ratio_table(rows).splitlines()[2:]
    assert line.endswith("| at least 3 | 2.00 | 2.00 | **no** |")
