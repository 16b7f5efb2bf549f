"""The options that a seed draws."""

import msgspec
import pytest

from tests.sim.fakes import RAFT_LIKE
from viewstamp.core.errors import ConfigurationError
from viewstamp.sim.world.options import (
    STORY_NAMES,
    DiskOptions,
    PartitionOptions,
    ProcessOptions,
    SwarmOptions,
    draw_options,
    override,
)

DRAWN = [draw_options("raft", RAFT_LIKE, seed) for seed in range(400)]


def test_options_are_the_same_when_the_seed_is() -> None:
    assert DRAWN[17] == draw_options("raft", RAFT_LIKE, 17)


def test_every_kind_of_fault_is_drawn_by_some_seeds_and_left_out_by_others() -> None:
    for field, harmless in (
        ("loss", 0.0), ("duplication", 0.0), ("corruption", 0.0), ("late", 0.0), ("echo", 0.0),
    ):  # fmt: skip
        having = sum(getattr(options.network, field) != harmless for options in DRAWN)
        assert 20 < having < 380, field
    for field in ("crash_rate", "pause_rate", "amnesia", "jump_rate", "crash_all_rate", "drift_max_ppm"):
        having = sum(bool(getattr(options.processes, field)) for options in DRAWN)
        assert 20 < having < 380, field
    for field in ("late_wake", "spurious_wake", "bootstraps_spoiled"):
        having = sum(bool(getattr(options.processes, field)) for options in DRAWN)
        assert 20 < having < 380, field
    assert {kind for options in DRAWN for kind in options.stories.kinds} == set(STORY_NAMES)
    assert 150 < sum(bool(options.stories.rate) for options in DRAWN) < 350
    for field in (
        "error_rate", "full_rate", "short_writes", "bit_rot", "stall_rate", "misdirect_rate",
        "slow_snapshots",
    ):  # fmt: skip
        having = sum(bool(getattr(options.disk, field)) for options in DRAWN)
        assert 20 < having < 380, field
    assert {options.partitions.mode for options in DRAWN} == {"none", "isolate", "split", "bridge", "ring"}
    assert {options.nodes for options in DRAWN} == {1, 2, 3, 4, 5, 7}


def test_a_fifth_of_the_seeds_has_no_fault_and_a_quarter_is_quiet() -> None:
    free = [options for options in DRAWN if options.fault_free]
    assert 50 < len(free) < 110
    for options in free:
        assert options.partitions == PartitionOptions()
        assert options.processes == ProcessOptions(turn_max_us=options.processes.turn_max_us)
        assert options.network.loss == options.disk.error_rate == options.disk.bit_rot == 0
    assert 60 < sum(options.load.quiet for options in DRAWN) < 140


def test_faults_that_a_protocol_does_not_stand_are_left_out() -> None:
    fragile = msgspec.structs.replace(
        RAFT_LIKE, safe_under_partition=False, survives_full_restart=False, tolerates="all_but_one"
    )
    for seed in range(100):
        options = draw_options("primary_backup", fragile, seed)
        assert options.partitions.mode == "none"
        assert options.network.loss == 0
        assert options.processes.crash_all_rate == 0


def test_no_disk_is_lost_when_there_are_fewer_than_three() -> None:
    for options in DRAWN:
        if options.nodes < 3:
            assert options.processes.amnesia == options.disk.bit_rot == 0


def test_override_restores_defaults_of_groups_and_fields() -> None:
    options = next(options for options in DRAWN if options.network.loss and options.processes.crash_rate)
    changed = override(options, ("disk", "network.loss"))
    assert changed.disk == DiskOptions()
    assert changed.network.loss == 0
    assert changed.network.delay_mean_us == options.network.delay_mean_us
    assert changed.processes == options.processes


@pytest.mark.parametrize("name", ["nodes", "disk.colour", "weather", "", "network."])
def test_override_refuses_when_the_name_is_unknown(name: str) -> None:
    if name == "network.":
        assert override(DRAWN[0], (name,)).network.loss == 0
        return
    with pytest.raises(ConfigurationError, match="no option is called"):
        override(DRAWN[0], (name,))


def test_description_names_what_differs_from_the_defaults() -> None:
    options = SwarmOptions("raft", 3, disk=DiskOptions(torn=0.5))
    assert options.describe() == "protocol=raft nodes=3 duration_s=8 disk.torn=0.5"
