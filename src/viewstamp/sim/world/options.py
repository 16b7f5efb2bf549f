"""The options of one run: which faults, how many, how severe. Drawn from the seed, printed on failure.

Swarm testing: a run that has every fault at once hides what a run with few of them shows, so each seed draws
which kinds it has at all (docs/faults.md#swarm). Rates are per second of virtual time;
durations in microseconds.
"""

from random import Random
from typing import Final, Literal

import msgspec

from viewstamp.core.errors import ConfigurationError
from viewstamp.core.protocol import Guarantees
from viewstamp.sim.world.world import RandomTree, log_uniform

SHRINKABLE: Final = ("network", "partitions", "processes", "stories", "disk", "load", "tuning", "membership")
"""The groups of options, in the order in which they are printed and shrunk."""

STORY_NAMES: Final = ("candidate", "depose", "forget", "handover", "pause", "strand")
"""The aimed faults of `stories.py`."""

PartitionMode = Literal["none", "isolate", "split", "bridge", "ring"]


class NetworkOptions(msgspec.Struct, frozen=True):
    """What happens to messages."""

    delay_min_us: int = 500
    delay_mean_us: int = 1_000
    """Mean of the exponential part that is added to the least delay."""
    loss: float = 0.0
    duplication: float = 0.0
    corruption: float = 0.0
    late: float = 0.0
    """How likely a message is held back until many others have overtaken it."""
    late_max_us: int = 0
    echo: float = 0.0
    """How likely a copy of a message arrives again, long after: in another term, at another incarnation."""
    echo_max_us: int = 5_000_000
    encode: float = 0.1
    """The share of messages between members that go through the real encoder and decoder."""
    stalls: bool = False
    """Whether a connection that was cut carries again only when TCP would send again. From the start only."""


class PartitionOptions(msgspec.Struct, frozen=True):
    """How the network is cut, clogged and reset."""

    mode: PartitionMode = "none"
    one_way: bool = False
    period_us: int = 4_000_000
    """Mean time between two cuts."""
    length_us: int = 2_000_000
    """Mean length of one."""
    clog_rate: float = 0.0
    clog_max_us: int = 500_000
    swizzle: float = 0.0
    """The share of clogs that are swizzles: several nodes clogged in turn, freed in another order."""
    reset_rate: float = 0.0


class ProcessOptions(msgspec.Struct, frozen=True):
    """How processes crash, pause and lag."""

    crash_rate: float = 0.0
    crash_all_rate: float = 0.0
    restart_min_us: int = 10_000
    restart_max_us: int = 10_000_000
    amnesia: float = 0.0
    """The share of restarts that find the data directory deleted."""
    pause_rate: float = 0.0
    pause_max_us: int = 5_000_000
    drift_max_ppm: int = 0
    jump_rate: float = 0.0
    jump_max_us: int = 0
    turn_max_us: int = 0
    """How late an event loop handles a deadline that has passed, at most."""
    late_wake: float = 0.0
    """The share of wakes that come up to `late_wake_max_us` after that: the loop was busy."""
    late_wake_max_us: int = 0
    spurious_wake: float = 0.0
    """The share of events after which it is woken although no deadline has passed."""
    bootstraps_spoiled: int = 0
    """How many crashes with a lost disk happen while the cluster bootstraps."""


class StoryOptions(msgspec.Struct, frozen=True):
    """Faults that are aimed: a few steps, each taken when the one before has had its effect."""

    rate: float = 0.0
    kinds: tuple[str, ...] = ()
    """Names in `stories.STORIES`."""


class MembershipOptions(msgspec.Struct, frozen=True):
    """How operators change the members (`faults.member_changes`)."""

    spares: int = 0
    """Nodes that are not members at first."""
    rate: float = 0.0
    """Changes asked for, a second."""


class DiskOptions(msgspec.Struct, frozen=True):
    """How disks behave."""

    sync_min_us: int = 200
    sync_mean_us: int = 300
    stall_rate: float = 0.0
    """The share of syncs that take up to `stall_max_us` instead."""
    stall_max_us: int = 0
    torn: float = 0.0
    """The share of unsynced data that is torn, rather than lost or kept, in a crash."""
    error_rate: float = 0.0
    """The share of syncs that fail with an input/output error, which ends the process."""
    full_rate: float = 0.0
    """The share of writes that find the disk full, which ends the process too."""
    short_writes: float = 0.0
    bit_rot: float = 0.0
    """The share of restarts that find a damaged byte, on as many nodes as may be lost."""
    misdirect_rate: float = 0.0
    """How often a write lands in another place than its own, on as many nodes as may be lost."""
    slow_snapshots: float = 0.0
    """The share of snapshots, and of their pieces, that take up to `stall_max_us`: later syncs overtake."""
    inline_sync: bool = False
    """Whether a sync happens within the step, as the driver does while syncs are fast."""


class LoadOptions(msgspec.Struct, frozen=True):
    """What clients do."""

    clients: int = 3
    sessionless: float = 0.0
    """The share of clients without sessions."""
    keys: int = 2
    think_mean_us: int = 20_000
    spread: bool = False
    """Whether the pauses of clients are stretched so that their calls last for the whole run."""
    reads: float = 0.4
    stale_reads: float = 0.0
    call_timeout_us: int = 5_000_000
    pipeline: int = 1
    """How many calls one client has open at once."""
    cancel: float = 0.0
    resend: float = 0.0
    """The share of commands with a session that are sent once more, long after they were answered."""
    transfer_rate: float = 0.0
    snapshot_rate: float = 0.0
    quiet: bool = False
    """Whether there is a long pause in the middle in which no client calls."""
    hostile_rate: float = 0.0
    """Frames a second of a client that means harm (`cluster.hostile`)."""


class TuningOptions(msgspec.Struct, frozen=True):
    """Sizes that are tiny in some runs, so that what is rare in production is common here."""

    snapshot_entries: int = 100
    batch_max: int = 64
    entries_in_flight_max: int = 256
    page_bytes: int = 1 << 20
    chunk_bytes: int = 1 << 16
    segment_bytes: int = 1 << 16
    session_seconds: int = 60
    sessions_max: int = 1_000
    applies_per_step: int = 1_024
    """Entries applied in one step; few, and a node lags behind what it knows to be committed."""
    waiting_max: int = 65_536
    """Commands, and queries, that may wait at one node."""
    results_max: int = 16_384
    """Results remembered for a session; its client has half as many calls open at once."""
    state_check_every: int = 4
    """The state is hashed and compared at each seqno that this divides."""


class SwarmOptions(msgspec.Struct, frozen=True):
    """Everything that a seed draws. Two equal options with one seed give the same run."""

    protocol: str
    nodes: int
    duration_us: int = 8_000_000
    """Length of the safety phase."""
    network: NetworkOptions = NetworkOptions()
    partitions: PartitionOptions = PartitionOptions()
    processes: ProcessOptions = ProcessOptions()
    stories: StoryOptions = StoryOptions()
    disk: DiskOptions = DiskOptions()
    load: LoadOptions = LoadOptions()
    tuning: TuningOptions = TuningOptions()
    membership: MembershipOptions = MembershipOptions()
    fault_free: bool = False

    def describe(self) -> str:
        """Return all options that differ from their defaults, in one line."""
        parts = [f"protocol={self.protocol}", f"nodes={self.nodes}", f"duration_s={self.duration_us / 1e6:g}"]
        for name in SHRINKABLE:
            group = getattr(self, name)
            parts += [f"{name}.{field}={value}" for field, value in _changed(group)]
        return " ".join(parts)


def _changed(group: msgspec.Struct) -> list[tuple[str, object]]:
    default = type(group)()
    fields = group.__struct_fields__
    return [
        (field, getattr(group, field)) for field in fields if getattr(group, field) != getattr(default, field)
    ]


def draw_options(
    protocol: str,
    guarantees: Guarantees,
    seed: int,
    *,
    nodes: int | None = None,
    duration_us: int | None = None,
) -> SwarmOptions:
    """Draw the options of a seed, within what the protocol promises to survive."""
    tree = RandomTree(seed)
    rng = tree.stream("swarm")
    drawn_nodes = rng.choice((1, 2, 3, 3, 3, 4, 5, 5, 7))
    fault_free = rng.random() < 0.2
    length = int(log_uniform(rng, 3e6, 20e6))
    options = SwarmOptions(
        protocol=protocol,
        nodes=nodes or drawn_nodes,
        duration_us=duration_us or length,
        network=_draw_network(tree.stream("swarm", "network"), faults=not fault_free),
        partitions=_draw_partitions(tree.stream("swarm", "partitions")),
        processes=_draw_processes(tree.stream("swarm", "processes")),
        stories=_draw_stories(tree.stream("swarm", "stories")),
        disk=_draw_disk(tree.stream("swarm", "disk"), faults=not fault_free),
        load=_draw_load(tree.stream("swarm", "load")),
        tuning=_draw_tuning(tree.stream("swarm", "tuning")),
        membership=_draw_membership(tree.stream("swarm", "membership")),
        fault_free=fault_free,
    )
    return restrict(options, guarantees)


def override(options: SwarmOptions, without: tuple[str, ...]) -> SwarmOptions:
    """Return the options with the groups or fields named (`disk`, `network.loss`) at their defaults.

    Raises:
        ConfigurationError: one of the names is neither a group nor a `group.field`.
    """
    for name in without:
        group, _, field = name.partition(".")
        value = getattr(options, group, None) if group in SHRINKABLE else None
        if value is None or (field and field not in value.__struct_fields__):
            raise ConfigurationError(f"no option is called {name!r}: see the line `options` of a run")
        default = type(value)()
        changed = msgspec.structs.replace(value, **{field: getattr(default, field)}) if field else default
        options = msgspec.structs.replace(options, **{group: changed})
    return options


def restrict(options: SwarmOptions, guarantees: Guarantees) -> SwarmOptions:
    """Return the options without the faults that the protocol does not promise to survive."""
    replace = msgspec.structs.replace
    if options.fault_free:
        options = _without_faults(options)
    if not guarantees.safe_under_partition:
        options = _crash_stop_only(options)
    if guarantees.reads == "one_behind":
        options = replace(options, load=replace(options.load, stale_reads=1.0))
    if not guarantees.survives_full_restart:
        options = replace(options, processes=replace(options.processes, crash_all_rate=0.0))
    if not guarantees.changes_members:
        options = replace(options, membership=MembershipOptions())
    if guarantees.dynamic_membership or options.membership.rate:
        # Until the misdirected write is noticed, the view may come to need this disk.
        options = replace(options, disk=replace(options.disk, misdirect_rate=0.0))
    if options.nodes < 3:
        # With one or two members a lost disk is a lost cluster: nothing is promised then.
        options = replace(
            options,
            processes=replace(options.processes, amnesia=0.0, bootstraps_spoiled=0),
            disk=replace(options.disk, bit_rot=0.0, misdirect_rate=0.0),
        )
    return options


def _without_faults(options: SwarmOptions) -> SwarmOptions:
    """Leave out what is not left out already where it is drawn."""
    return msgspec.structs.replace(
        options,
        partitions=PartitionOptions(),
        stories=StoryOptions(),
        processes=ProcessOptions(turn_max_us=options.processes.turn_max_us),
        load=msgspec.structs.replace(options.load, transfer_rate=0.0),
    )


def _crash_stop_only(options: SwarmOptions) -> SwarmOptions:
    """Leave out what makes a member that is slow look dead: what is left are processes that stop."""
    replace, network = msgspec.structs.replace, options.network
    quiet = NetworkOptions(network.delay_min_us, network.delay_mean_us, encode=network.encode)
    processes = replace(options.processes, pause_rate=0.0, jump_rate=0.0, bootstraps_spoiled=0, late_wake=0.0)
    disk = replace(options.disk, error_rate=0.0, full_rate=0.0, bit_rot=0.0, misdirect_rate=0.0)
    return replace(
        options,
        network=quiet,
        partitions=PartitionOptions(),
        stories=StoryOptions(),
        processes=processes,
        disk=disk,
    )


def _sometimes(rng: Random, share: float, low: float, high: float) -> float:
    """Draw 0 in most seeds, and in this share of them something between low and high."""
    on, value = rng.random() < share, rng.uniform(low, high)
    return value if on else 0.0


def _draw_network(rng: Random, *, faults: bool) -> NetworkOptions:
    fast = rng.random() < 0.5
    options = NetworkOptions(
        delay_min_us=rng.randint(0, 2_000 if fast else 30_000),
        delay_mean_us=int(log_uniform(rng, 1_000, 5_000 if fast else 60_000)),
        loss=_sometimes(rng, 0.33, 0.01, 0.30),
        duplication=_sometimes(rng, 0.5, 0.01, 0.5),
        corruption=_sometimes(rng, 0.3, 0.0, 0.01),
        late=_sometimes(rng, 0.3, 0.01, 0.1),
        late_max_us=rng.choice((100_000, 500_000, 2_000_000)),
        echo=_sometimes(rng, 0.5, 0.005, 0.1),
        echo_max_us=int(log_uniform(rng, 100_000, 10_000_000)),
        encode=rng.choice((0.02, 0.1, 1.0)),
    )
    if faults:
        return options
    return NetworkOptions(options.delay_min_us, options.delay_mean_us, encode=options.encode)


def _draw_partitions(rng: Random) -> PartitionOptions:
    modes: tuple[PartitionMode, ...] = ("none", "isolate", "isolate", "split", "split", "bridge", "ring")
    return PartitionOptions(
        mode=rng.choice(modes),
        one_way=rng.random() < 0.3,
        period_us=int(log_uniform(rng, 500_000, 6_000_000)),
        length_us=int(log_uniform(rng, 100_000, 4_000_000)),
        clog_rate=_sometimes(rng, 0.4, 0.1, 2.0),
        clog_max_us=int(log_uniform(rng, 10_000, 2_000_000)),
        swizzle=0.3,
        reset_rate=_sometimes(rng, 0.4, 0.1, 2.0),
    )


def _draw_processes(rng: Random) -> ProcessOptions:
    restart_low = log_uniform(rng, 10_000, 1_000_000)
    return ProcessOptions(
        crash_rate=rng.choice((0.0, 0.2, 0.5, 1.5)),
        crash_all_rate=rng.choice((0.0, 0.0, 0.1)),
        restart_min_us=int(restart_low),
        restart_max_us=int(log_uniform(rng, restart_low, 10_000_000)),
        amnesia=rng.choice((0.0, 0.0, 0.1, 0.3)),
        pause_rate=_sometimes(rng, 0.3, 0.05, 0.5),
        pause_max_us=int(log_uniform(rng, 10_000, 5_000_000)),
        drift_max_ppm=rng.choice((0, 100, 50_000)),
        jump_rate=_sometimes(rng, 0.2, 0.05, 0.3),
        jump_max_us=rng.choice((100_000, 5_000_000, 3_600_000_000)),
        turn_max_us=rng.choice((0, 50, 2_000)),
        late_wake=_sometimes(rng, 0.25, 0.01, 0.25),
        late_wake_max_us=int(log_uniform(rng, 10_000, 300_000)),
        spurious_wake=_sometimes(rng, 0.25, 0.01, 0.25),
        bootstraps_spoiled=rng.choice((0, 0, 1, 3)),
    )


def _draw_stories(rng: Random) -> StoryOptions:
    told, rate = rng.random() < 0.75, log_uniform(rng, 0.3, 3.0)
    chosen = tuple(sorted(rng.sample(STORY_NAMES, rng.randint(1, len(STORY_NAMES)))))
    return StoryOptions(rate, chosen) if told else StoryOptions()


def _draw_membership(rng: Random) -> MembershipOptions:
    drawn = MembershipOptions(spares=rng.randint(0, 4), rate=log_uniform(rng, 0.3, 4.0))
    return drawn if rng.random() < 0.4 else MembershipOptions()


def _draw_disk(rng: Random, *, faults: bool) -> DiskOptions:
    options = DiskOptions(
        sync_min_us=rng.choice((10, 200, 2_000)),
        sync_mean_us=int(log_uniform(rng, 50, 20_000)),
        stall_rate=_sometimes(rng, 0.3, 0.001, 0.05),
        stall_max_us=rng.choice((100_000, 1_000_000)),
        torn=rng.uniform(0.8, 1.0),
        error_rate=_sometimes(rng, 0.2, 0.0, 0.01),
        full_rate=_sometimes(rng, 0.15, 0.0, 0.01),
        short_writes=_sometimes(rng, 0.3, 0.05, 0.5),
        bit_rot=_sometimes(rng, 0.3, 0.05, 0.3),
        misdirect_rate=_sometimes(rng, 0.25, 0.05, 0.3),
        slow_snapshots=_sometimes(rng, 0.3, 0.1, 0.5),
        inline_sync=rng.random() < 0.3,
    )
    if faults:
        return options
    return DiskOptions(options.sync_min_us, options.sync_mean_us, inline_sync=options.inline_sync)


def _draw_load(rng: Random) -> LoadOptions:
    clients = rng.randint(1, 8)
    return LoadOptions(
        clients=clients,
        sessionless=rng.choice((0.0, 0.3, 1.0)),
        keys=rng.randint(1, 4),
        think_mean_us=int(log_uniform(rng, 1_000, 100_000)),
        spread=rng.random() < 0.7,
        reads=rng.choice((0.1, 0.4, 0.8)),
        stale_reads=rng.choice((0.0, 0.1)),
        call_timeout_us=int(log_uniform(rng, 300_000, 10_000_000)),
        pipeline=rng.choice((1, 1, 4 if clients < 5 else 1)),
        cancel=rng.choice((0.0, 0.0, 0.02)),
        resend=_sometimes(rng, 0.5, 0.05, 0.3),
        transfer_rate=_sometimes(rng, 0.3, 0.1, 1.0),
        snapshot_rate=_sometimes(rng, 0.3, 0.1, 1.0),
        quiet=rng.random() < 0.25,
    )


_FEW_SESSIONS: Final = 2
_SHORT_SESSION_S: Final = 5


def _draw_tuning(rng: Random) -> TuningOptions:
    tuning = TuningOptions(
        snapshot_entries=rng.choice((1, 10, 100)),
        batch_max=rng.choice((1, 4, 64)),
        entries_in_flight_max=rng.choice((1, 2, 256)),
        page_bytes=rng.choice((1, 1_024, 1 << 20)),
        chunk_bytes=rng.choice((16, 512, 1 << 16)),
        segment_bytes=rng.choice((4_096, 1 << 16)),
        session_seconds=rng.choice((_SHORT_SESSION_S, 60)),
        sessions_max=rng.choice((_FEW_SESSIONS, 1_000, 1_000)),
        applies_per_step=rng.choice((1, 1_024, 1_024)),
        waiting_max=rng.choice((2, 65_536, 65_536, 65_536)),
        results_max=rng.choice((8, 16_384, 16_384)),
        state_check_every=rng.choice((1, 8)),
    )
    if tuning.sessions_max <= _FEW_SESSIONS:
        # What a client left behind must not refuse the last one for longer than it waits.
        return msgspec.structs.replace(tuning, session_seconds=_SHORT_SESSION_S)
    return tuning
