"""What TLS costs is told as a median of ratios, each within one round."""

from benchmarks.limits import verdicts
from benchmarks.waiting.tls import summary


def side(per_second: float, servers_us: float, all_us: float) -> dict[str, float]:
    return {"per_second": per_second, "servers_us": servers_us, "all_us": all_us}


def test_each_round_is_compared_with_itself() -> None:
    quiet = {"plain": side(100, 10, 20), "tls": side(80, 12.5, 25)}
    busy = {"plain": side(10, 100, 200), "tls": side(9, 125, 250)}
    assert summary([quiet, busy, quiet]) == {"rate": 0.8, "processor": 0.8, "processor_servers": 0.8}


def test_what_takes_more_than_five_quarters_is_too_much() -> None:
    def met(processor: float, connect_s: float) -> list[bool]:
        connecting = {"tls": {"processor_s": connect_s, "least_s": connect_s}}
        of_plain = {"rate": 0.5, "processor": processor}
        return [one.met for one in verdicts({"tls": {"of_plain": of_plain, "connecting": connecting}})]

    assert met(0.81, 0.0029) == [True] * 4
    assert met(0.79, 0.0031) == [False, True, False, False]
