"""What a seed draws for the simulation of the runtime, besides the options of `sim.world.options`."""

from random import Random
from typing import Final

import msgspec

from viewstamp.core.errors import ConfigurationError
from viewstamp.runtime.config import Placement, SnapshotPlacement
from viewstamp.sim.world.world import log_uniform


class LoopOptions(msgspec.Struct, frozen=True):
    """How event loops behave."""

    round_min_us: int = 5
    round_max_us: int = 40
    """How long a round keeps the processor."""
    slow: float = 0.0
    """The share of rounds that take up to `slow_max_us` more: the processor was busy elsewhere."""
    slow_max_us: int = 50_000
    shuffled: bool = True
    """Whether sockets that are ready together are served in any order, or as they became ready."""


class SocketOptions(msgspec.Struct, frozen=True):
    """How streams behave."""

    buffer_bytes: int = 1 << 20
    """What is under way or not read in one direction, at most."""
    read_bytes_max: int = 256 << 10
    partial_writes: float = 0.0
    """The share of writes of which the kernel takes only a part."""
    pieces: float = 0.0
    """The share of writes that arrive in several pieces, some of them late."""
    piece_delay_max_us: int = 20_000
    accept_delay: float = 0.0
    """The share of connections that stand late."""
    accept_delay_max_us: int = 1_000_000
    reset_rate: float = 0.0
    """Connections that break, a second; half of them within a frame."""
    stall_rate: float = 0.0
    """Receivers that read nothing for a while, a second."""
    storm_rate: float = 0.0
    """Bursts of connections without a hello, a second."""
    deferred_writes: bool = False
    """Whether a write leaves at the end of the round, as with uvloop."""


class CallOptions(msgspec.Struct, frozen=True):
    """How the calls of the system behave, besides what `DiskOptions` says of syncs."""

    crash: float = 0.0
    """The share of crashes that are aimed at a call of the system to come."""
    write_error: float = 0.0
    """The share of writes that fail, also where the room was reserved before."""
    directory_sync_error: float = 0.0
    direct: bool = True
    """Whether the file system takes direct writes."""
    direct_refused: float = 0.0
    """The share of direct writes that it refuses after all."""
    call_max_us: int = 50
    """How long a call takes, syncs apart."""
    hang_rate: float = 0.0
    """The share of syncs that hang for longer than a node may wait."""
    fork_failure: float = 0.0
    """The share of forked copies that end early."""


class RuntimeOptions(msgspec.Struct, frozen=True):
    """Everything that a seed draws here."""

    loop: LoopOptions = LoopOptions()
    sockets: SocketOptions = SocketOptions()
    calls: CallOptions = CallOptions()
    sync_placement: Placement = "auto"
    snapshot_placement: SnapshotPlacement = "auto"

    def describe(self) -> str:
        """Return what differs from the defaults, in one line."""
        parts = [f"sync={self.sync_placement}", f"snapshots={self.snapshot_placement}"]
        for name in GROUPS:
            group: msgspec.Struct = getattr(self, name)
            default = type(group)()
            for field in group.__struct_fields__:
                value = getattr(group, field)
                if value != getattr(default, field):
                    shown = f"{value:.3g}" if isinstance(value, float) else value
                    parts.append(f"{name}.{field}={shown}")
        return " ".join(parts)


GROUPS: Final = ("loop", "sockets", "calls")


def without(options: RuntimeOptions, names: tuple[str, ...]) -> RuntimeOptions:
    """Return the options with the groups or fields named (`sockets`, `calls.crash`) at their defaults.

    Raises:
        ConfigurationError: one of the names is neither a group nor a `group.field`.
    """
    for name in names:
        group, _, field = name.partition(".")
        value: msgspec.Struct = getattr(options, group)
        if field and field not in value.__struct_fields__:
            raise ConfigurationError(f"no option is called {name!r}: see the line `options` of a run")
        default = type(value)()
        changed = msgspec.structs.replace(value, **{field: getattr(default, field)}) if field else default
        options = msgspec.structs.replace(options, **{group: changed})
    return options


def _sometimes(rng: Random, share: float, low: float, high: float) -> float:
    on, value = rng.random() < share, rng.uniform(low, high)
    return value if on else 0.0


def draw_runtime_options(rng: Random, *, fault_free: bool) -> RuntimeOptions:
    """Draw the options of a seed."""
    options = RuntimeOptions(
        loop=_draw_loop(rng),
        sockets=_draw_sockets(rng),
        calls=_draw_calls(rng),
        sync_placement=rng.choice(("auto", "inline", "executor", "executor")),
        snapshot_placement=rng.choice(("auto", "inline", "fork", "fork")),
    )
    if not fault_free:
        return options
    calm = msgspec.structs.replace(options.sockets, reset_rate=0.0, stall_rate=0.0, storm_rate=0.0)
    calls = CallOptions(direct=options.calls.direct, call_max_us=options.calls.call_max_us)
    return msgspec.structs.replace(options, sockets=calm, calls=calls)


def _draw_loop(rng: Random) -> LoopOptions:
    return LoopOptions(
        round_min_us=1,
        round_max_us=rng.choice((20, 100, 1_000)),
        slow=_sometimes(rng, 0.25, 0.0005, 0.01),
        slow_max_us=int(log_uniform(rng, 10_000, 500_000)),
        shuffled=rng.random() < 0.8,
    )


def _draw_sockets(rng: Random) -> SocketOptions:
    return SocketOptions(
        buffer_bytes=rng.choice((4_096, 1 << 16, 1 << 20)),
        read_bytes_max=rng.choice((100, 1_000, 256 << 10, 256 << 10)),
        partial_writes=_sometimes(rng, 0.4, 0.05, 0.5),
        pieces=_sometimes(rng, 0.5, 0.02, 0.3),
        piece_delay_max_us=int(log_uniform(rng, 100, 200_000)),
        accept_delay=_sometimes(rng, 0.3, 0.05, 0.5),
        reset_rate=_sometimes(rng, 0.5, 0.1, 2.0),
        stall_rate=_sometimes(rng, 0.3, 0.05, 0.5),
        storm_rate=_sometimes(rng, 0.2, 0.1, 0.5),
        deferred_writes=rng.random() < 0.5,
    )


def _draw_calls(rng: Random) -> CallOptions:
    return CallOptions(
        crash=rng.choice((0.3, 0.7, 1.0)),
        write_error=_sometimes(rng, 0.25, 0.0005, 0.01),
        directory_sync_error=_sometimes(rng, 0.2, 0.01, 0.1),
        direct=rng.random() < 0.7,
        direct_refused=_sometimes(rng, 0.2, 0.01, 0.2),
        call_max_us=rng.choice((5, 50, 2_000)),
        hang_rate=_sometimes(rng, 0.15, 0.0005, 0.005),
        fork_failure=_sometimes(rng, 0.3, 0.05, 0.5),
    )
