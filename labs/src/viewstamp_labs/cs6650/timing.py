"""How long orders took, and the one line that a client program ends with."""

from typing import Final

_US_PER_S: Final = 1_000_000


class Latencies:
    """Latencies of single requests, all customers of one program together."""

    __slots__ = ("count", "max_us", "min_us", "sum_us")

    def __init__(self) -> None:
        self.count = 0
        self.sum_us = 0
        self.min_us = 0
        self.max_us = 0

    def add(self, latency_us: int) -> None:
        """Count one answered request."""
        if latency_us < self.min_us or not self.count:
            self.min_us = latency_us
        self.max_us = max(self.max_us, latency_us)
        self.count += 1
        self.sum_us += latency_us

    @property
    def average_us(self) -> float:
        """Mean over all requests, 0 without any."""
        return self.sum_us / self.count if self.count else 0.0

    def summary(self, elapsed_us: int) -> str:
        """Return average, minimum and maximum in microseconds and requests a second, as one line."""
        throughput = self.count * _US_PER_S / elapsed_us if elapsed_us else 0.0
        return (
            f"avg latency: {self.average_us:.3f}\tmin latency: {self.min_us:.3f}\t"
            f"max latency: {self.max_us:.3f}\tthroughput: {throughput:.3f}"
        )


def parse_summary(line: str) -> dict[str, float]:
    """Return the numbers of a summary by their names; empty where the line is none."""
    fields = (field.partition(": ") for field in line.strip().split("\t"))
    return {name: float(value) for name, colon, value in fields if colon}
