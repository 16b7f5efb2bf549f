"""`/metrics`: the node's plain integers as OpenMetrics, made when they are asked for.

Counting costs the node an attribute; all that a scrape costs is paid by the scrape. Labels are bounded: the
members of the cluster, the budgets, the reasons of this program. No name and no value comes from a client.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector, CollectorRegistry
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from viewstamp.core.protocol import Status
from viewstamp.runtime.metrics import BOUNDS_US, Histogram
from viewstamp.runtime.server import Server

Extra = Callable[[], Iterable[Metric]]
"""What another package adds to a scrape."""

_US: Final = 1_000_000

COUNTERS: Final = {
    "events": ("events", "Events fed to the replica."),
    "turns": ("turns", "Turns of the loop in which the node worked."),
    "stalls": ("stalls", "Times that the loop came late to a deadline."),
    "syncs": ("syncs", "Syncs of the journal."),
    "persisted": ("persisted_writes", "Atomic writes made durable."),
    "snapshots": ("snapshots", "Snapshots saved."),
    "snapshots_failed": ("snapshots_failed", "Snapshots that could not be made."),
    "leader_changes": ("leader_changes", "Times that this node heard of another leader or view."),
    "notices": ("divergence", "Times that this node said that a member differs, or that it was in doubt."),
    "peer_messages_in": ("peer_messages_received", "Messages received from other members."),
    "peer_messages_out": ("peer_messages_sent", "Messages given to a member's connection."),
    "peer_messages_dropped": ("peer_messages_dropped", "Messages to members that were away or did not read."),
    "client_messages_in": ("client_messages_received", "Messages received from clients."),
    "client_messages_out": ("client_messages_sent", "Messages given to a client's connection."),
    "client_messages_waited": ("client_messages_waited", "Messages of clients kept for a later turn."),
    "connections_accepted": ("connections_accepted", "Connections accepted."),
    "dials": ("dials", "Attempts to connect to another member."),
}
"""Field of `runtime.metrics.Metrics`: name of the metric without prefix and `_total`, and its help."""

REFUSALS: Final = {
    "connections_refused": "connection",
    "violations": "violation",
    "frames_late": "late_frame",
    "clients_stalled": "stalled_client",
    "clients_idle": "idle_client",
    "clients_displaced": "displaced_client",
    "commands_refused": "overloaded",
}
"""Field of `Metrics`: the label `reason` of `viewstamp_refused_total`."""

DURATIONS: Final = {
    "sync_time": ("sync", "How long a sync of the journal took."),
    "commit_time": ("commit", "From proposing an entry to executing it, at the leader."),
    "apply_time": ("apply", "How long a step took that executed entries; one step in 16 is measured."),
    "queue_time": ("queue", "How long the oldest command waited until all that waited was proposed."),
    "snapshot_time": ("snapshot", "How long saving a snapshot took."),
}

LEVELS: Final = {
    "disk_free_bytes": ("disk_free_bytes", "Room for the data directory; 0: not known."),
    "certificate_expires_at_s": (
        "certificate_expiry_timestamp_seconds",
        "When the node's certificate expires, in seconds since 1970; 0: it shows none.",
    ),
    "disk_is_low": ("disk_is_low", "Whether only commands are taken that free something."),
}
"""Field of `Metrics`: name of the metric, and its help."""

GAUGES: Final = {
    "view": ("view", "The current view, term or epoch."),
    "committed": ("committed_seqno", "Seqno up to which this node knows the log to be committed."),
    "applied": ("applied_seqno", "Seqno up to which this node has executed the log."),
    "snapshot": ("snapshot_seqno", "Seqno of the newest snapshot."),
    "log_bytes": ("log_bytes", "Bytes of the journal that a restart would need."),
}
"""Field of `core.protocol.Status`: name of the metric, and its help."""


class NodeCollector(Collector):
    """Makes the metrics of one node when a scrape asks."""

    def __init__(self, server: Server, extras: Iterable[Extra] = ()) -> None:
        self._server = server
        self._extras = tuple(extras)

    def collect(self) -> Iterator[Metric]:
        """Yield every metric of this node."""
        server = self._server
        if not server.running:
            return
        counters = server.counters()
        for field, (name, text) in COUNTERS.items():
            yield CounterMetricFamily(f"viewstamp_{name}", text, value=counters[field])
        refused = CounterMetricFamily("viewstamp_refused", "What was refused or cut off.", labels=["reason"])
        for field, reason in REFUSALS.items():
            refused.add_metric([reason], counters[field])
        yield refused
        for field, (name, text) in DURATIONS.items():
            yield _histogram(f"viewstamp_{name}_seconds", text, getattr(server.metrics, field))
        for field, (name, text) in LEVELS.items():
            yield GaugeMetricFamily(f"viewstamp_{name}", text, value=counters[field])
        yield from _of_status(server.status())
        yield from self._budgets()
        for extra in self._extras:
            yield from extra()

    def _budgets(self) -> Iterator[Metric]:
        used = GaugeMetricFamily("viewstamp_budget_used", "How much of a budget is used.", labels=["budget"])
        most = GaugeMetricFamily("viewstamp_budget_limit", "How much of it there is.", labels=["budget"])
        for what, (now, limit) in self._server.budgets().items():
            used.add_metric([what.replace(" ", "_")], now)
            most.add_metric([what.replace(" ", "_")], limit)
        yield used
        yield most


def _histogram(name: str, text: str, histogram: Histogram) -> HistogramMetricFamily:
    counted, buckets = 0, []
    for bound, count in zip((*BOUNDS_US, None), histogram.counts, strict=True):
        counted += count
        buckets.append(("+Inf" if bound is None else repr(bound / _US), counted))
    return HistogramMetricFamily(name, text, buckets=buckets, sum_value=histogram.sum_us / _US)


def _of_status(status: Status) -> Iterator[Metric]:
    for field, (name, text) in GAUGES.items():
        yield GaugeMetricFamily(f"viewstamp_{name}", text, value=getattr(status, field))
    for name, text, value in (
        ("is_leader", "Whether this node leads.", status.leader == status.node),
        ("has_leader", "Whether it knows a leader.", status.leader is not None),
        ("apply_lag_entries", "Committed entries not executed.", status.committed - status.applied),
        ("waiting", "Whether it does not serve; `viewstamp status` says why.", bool(status.waiting_for)),
    ):
        yield GaugeMetricFamily(f"viewstamp_{name}", text, value=value)
    behind = GaugeMetricFamily(
        "viewstamp_peer_lag_entries", "Entries that a member does not have on disk.", labels=["peer"]
    )
    heard = GaugeMetricFamily(
        "viewstamp_peer_heard_seconds", "Seconds since a member was last heard.", labels=["peer"]
    )
    for peer in status.peers:
        behind.add_metric([str(peer.node)], max(0, status.last.seqno - peer.matched))
        if peer.heard_us_ago is not None:
            heard.add_metric([str(peer.node)], peer.heard_us_ago / _US)
    yield behind
    yield heard


def names(collector: Collector) -> set[str]:
    """Return the names of all samples that this collector makes now."""
    return {sample.name for metric in collector.collect() for sample in metric.samples}


def metrics_route(server: Server, extras: Iterable[Extra] = ()) -> Route:
    """Return the path."""
    registry = CollectorRegistry()
    registry.register(NodeCollector(server, extras))

    async def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), media_type=content_type)

    return Route("/metrics", metrics)
