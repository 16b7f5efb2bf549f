"""Rows of a comparison, made up."""

from typing import Any


def row(peer: str, number: int, per_second: float, *, p50: int = 100, clients: int = 64, **more: Any) -> Any:
    """Return what one measurement leaves behind."""
    return {
        "round": number,
        "peer": peer,
        "workload": "writes",
        "clients": clients,
        "value_bytes": 32,
        "seconds": 1.0,
        "connections": 16,
        "per_second": per_second,
        "latency_us": {"p50": p50, "p99": 10 * p50},
        "cores": {"servers": 1.0, "load": 0.5, "others": 0.01},
        **more,
    }
