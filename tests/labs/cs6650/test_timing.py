"""The line that a client program ends with."""

from viewstamp_labs.cs6650.timing import Latencies, parse_summary


def test_the_summary_tells_average_extremes_and_throughput() -> None:
    latencies = Latencies()
    for latency_us in (300, 100, 200):
        latencies.add(latency_us)
    line = latencies.summary(elapsed_us=1_500_000)
    assert line == "avg latency: 200.000\tmin latency: 100.000\tmax latency: 300.000\tthroughput: 2.000"
    expected = {"avg latency": 200.0, "min latency": 100.0, "max latency": 300.0, "throughput": 2.0}
    assert parse_summary(line + "\n") == expected


def test_the_summary_is_zero_when_nothing_was_answered() -> None:
    line = Latencies().summary(elapsed_us=0)
    assert set(parse_summary(line).values()) == {0.0}


def test_a_line_that_is_no_summary_has_no_numbers() -> None:
    assert parse_summary("11\t99\n") == {}
