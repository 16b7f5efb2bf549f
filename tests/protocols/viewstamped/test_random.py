"""Random disasters: Hypothesis drives a cluster; the harness judges every step, message and applied entry.

At the end all links are mended and all nodes run: they must become one view, execute one more command and
have equal states.
"""

from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.protocols.viewstamped.harness import MS, Cluster
from viewstamp.core.ids import NodeId
from viewstamp.protocols.viewstamped.options import ViewstampedOptions


def meddler(cluster: Cluster, rng: Random, *, loss: float, doubles: float, delay_us_max: int) -> None:
    """Make a cluster's network lose, double, delay and reorder."""

    def meddle(_source: NodeId, _target: NodeId, _message: object) -> tuple[int, ...]:
        if rng.random() < loss:
            return ()
        delay = 1 + rng.randrange(delay_us_max)
        return (delay, delay + rng.randrange(300 * MS)) if rng.random() < doubles else (delay,)

    cluster.meddle = meddle


def settle(cluster: Cluster) -> None:
    """Mend everything and demand that the cluster becomes whole."""
    cluster.heal()
    cluster.meddle = None
    cluster.start(*(node for node in cluster.members if node not in cluster.running))
    cluster.form(*cluster.members, within_ms=20_000)
    cluster.write("end")
    # A view that was accepted long ago may be decided only now, without one of them.
    cluster.run(1_000)
    cluster.form(*cluster.members, within_ms=20_000)
    cluster.run(500)
    machines = [cluster.hosts[node].machine for node in cluster.members]
    assert all(machine == machines[0] for machine in machines)
    assert len(machines[0]) >= max(cluster.acknowledged)
    assert all(machines[0][seqno - 1] == entry.data for seqno, entry in cluster.chosen.items())


class Disasters(RuleBasedStateMachine):
    cluster: Cluster

    @initialize(
        size=st.integers(1, 5),
        seed=st.integers(0, 2**32),
        loss=st.sampled_from([0.0, 0.0, 0.05, 0.2]),
        doubles=st.sampled_from([0.0, 0.1, 0.3]),
        delay_us_max=st.sampled_from([1, 5 * MS, 50 * MS, 150 * MS]),
        disk_us=st.sampled_from([0, MS, 5 * MS]),
        log_bytes_max=st.sampled_from([120, 600, 4_000, None]),
    )
    def begin(
        self,
        size: int,
        seed: int,
        loss: float,
        doubles: float,
        delay_us_max: int,
        disk_us: int,
        log_bytes_max: int | None,
    ) -> None:
        options = ViewstampedOptions(
            log_bytes_max=log_bytes_max,
            message_bytes_max=40,
            snapshot_chunk_bytes=7,
            snapshot_window_chunks=3,
        )
        self.cluster = Cluster(range(1, size + 1), options=options, disk_us=disk_us, seed=seed)
        meddler(self.cluster, Random(seed), loss=loss, doubles=doubles, delay_us_max=delay_us_max)
        self.count = 0
        self.cluster.start(*self.cluster.members)

    @rule(duration_ms=st.sampled_from([1, 10, 50, 200, 600]))
    def wait(self, duration_ms: int) -> None:
        self.cluster.run(duration_ms)

    @rule(count=st.integers(1, 5))
    def propose(self, count: int) -> None:
        for _ in range(count):
            primary = self.cluster.primary
            if primary is not None:
                self.count += 1
                self.cluster.propose(str(self.count), primary)

    @precondition(lambda self: self.cluster.running)
    @rule(data=st.data())
    def read(self, data: st.DataObject) -> None:
        self.cluster.query(data.draw(st.sampled_from(self.cluster.running)))

    @precondition(lambda self: self.cluster.running)
    @rule(data=st.data())
    def crash(self, data: st.DataObject) -> None:
        self.cluster.crash(data.draw(st.sampled_from(self.cluster.running)))

    @precondition(lambda self: len(self.cluster.running) < len(self.cluster.members))
    @rule(data=st.data())
    def restart(self, data: st.DataObject) -> None:
        down = [node for node in self.cluster.members if node not in self.cluster.running]
        self.cluster.start(data.draw(st.sampled_from(down)))

    @rule(data=st.data())
    def cut(self, data: st.DataObject) -> None:
        self.cluster.isolate(data.draw(st.sampled_from(self.cluster.members)))

    @rule()
    def mend(self) -> None:
        self.cluster.heal()

    def teardown(self) -> None:
        if hasattr(self, "cluster"):
            settle(self.cluster)


Disasters.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=40,
)
TestDisasters = Disasters.TestCase


def walk(seed: int) -> Cluster:
    """Run one random walk, faster than Hypothesis does, and return its cluster."""
    rng = Random(seed)
    nodes = range(1, rng.choice([2, 3, 3, 4, 5]) + 1)
    options = ViewstampedOptions(
        log_bytes_max=rng.choice([120, 400, 4_000, None]),
        message_bytes_max=rng.choice([1, 40, 1_000]),
        uncommitted_entries_max=rng.choice([1, 2, 64]),
        applies_per_step_max=rng.choice([1, 3, 1_024]),
        members_min=rng.choice([None, 1]),
        snapshot_chunk_bytes=7,
        snapshot_window_chunks=3,
    )
    cluster = Cluster(nodes, options=options, disk_us=rng.choice([0, 500, 5_000]), seed=seed)
    meddler(
        cluster,
        rng,
        loss=rng.choice([0, 0, 0.05, 0.2]),
        doubles=rng.choice([0, 0.1, 0.3]),
        delay_us_max=rng.choice([MS, 5 * MS, 50 * MS, 150 * MS]),
    )
    cluster.start(*nodes)
    for _ in range(60):
        stumble(cluster, rng)
        cluster.run(rng.choice([1, 10, 50, 200, 600]))
    settle(cluster)
    return cluster


def stumble(cluster: Cluster, rng: Random) -> None:
    """Let one thing happen."""
    down = [node for node in cluster.members if node not in cluster.running]
    what = rng.choices(["propose", "crash", "start", "cut", "heal", "read"], [35, 10, 15, 6, 6, 4])[0]
    if what == "propose":
        for number in range(rng.randrange(6)):
            if cluster.primary is not None:
                cluster.propose(f"{cluster.now}.{number}")
    elif what == "crash" and cluster.running:
        cluster.crash(rng.choice(cluster.running))
    elif what == "start" and down:
        cluster.start(rng.choice(down))
    elif what == "cut":
        cluster.isolate(*rng.sample(cluster.members, rng.randrange(1, len(cluster.members))))
    elif what == "heal":
        cluster.heal()
    elif what == "read" and cluster.running:
        cluster.query(rng.choice(cluster.running))


@pytest.mark.parametrize("first", range(0, 60, 20))
def test_nothing_is_lost_when_seeds_are_walked(first: int) -> None:
    acknowledged = views = restored = 0
    for seed in range(first, first + 20):
        cluster = walk(seed)
        acknowledged += len(cluster.acknowledged)
        views += cluster.core(1).view
        restored += sum(host.restored for host in cluster.hosts.values())
    # Not vacuous: commands were executed, views changed, snapshots were sent.
    assert acknowledged > 400
    assert views > 60
    assert restored > 0


def test_the_same_things_happen_when_a_seed_is_walked_twice() -> None:
    first, second = walk(4711), walk(4711)
    assert first.sent == second.sent
    assert first.now == second.now
    assert first.rng.random() == second.rng.random()
