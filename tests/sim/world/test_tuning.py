"""No drawn size may pass a protocol by in silence."""

import msgspec
import pytest

from viewstamp.core.errors import ConfigurationError
from viewstamp.protocols.registry import LABORATORY_NAMES, PROTOCOL_NAMES, protocol_definition
from viewstamp.sim.world.options import TuningOptions
from viewstamp.sim.world.tuning import (
    NOT_APPLICABLE,
    drawn_sizes,
    options_with,
    protocol_options,
    with_fields,
)

ALL_NAMES = (*PROTOCOL_NAMES, *LABORATORY_NAMES)
TINY = TuningOptions(applies_per_step=1, entries_in_flight_max=1, waiting_max=2)


@pytest.mark.parametrize("name", ALL_NAMES)
def test_every_drawn_size_reaches_a_protocol_or_is_listed_as_not_applicable(name: str) -> None:
    options = protocol_options(protocol_definition(name), TINY)
    lacking = NOT_APPLICABLE.get(name, frozenset())
    for field, value in drawn_sizes(TINY).items():
        assert field in lacking or getattr(options, field) == value


@pytest.mark.parametrize("name", ALL_NAMES)
def test_nothing_is_listed_as_not_applicable_that_the_protocol_has(name: str) -> None:
    fields = protocol_definition(name).options_type.__struct_fields__
    assert NOT_APPLICABLE.get(name, frozenset()).isdisjoint(fields)


def test_the_list_names_only_protocols_that_exist() -> None:
    assert NOT_APPLICABLE.keys() <= set(ALL_NAMES)


def test_a_field_that_a_protocol_lacks_and_that_is_not_listed_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="has no field snapshot_entrys"):
        options_with(protocol_definition("viewstamped"), {"snapshot_entrys": 1})


class _Renamed(msgspec.Struct, frozen=True):
    entries_per_step_max: int = 1


def test_a_protocol_that_names_a_size_in_its_own_way_is_refused() -> None:
    renamed = msgspec.structs.replace(protocol_definition("raft"), options_type=_Renamed)
    with pytest.raises(ConfigurationError, match="applies_per_step_max"):
        protocol_options(renamed, TINY)


def test_with_fields_sets_what_the_options_have() -> None:
    assert with_fields(_Renamed(), {"entries_per_step_max": 3, "other": 1}, lacking=frozenset({"other"})) == (
        _Renamed(3)
    )
