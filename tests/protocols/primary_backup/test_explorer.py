"""The fenced mode in small worlds, every order of events: the same core, no chance, no sampling.

The operator of these worlds is as restless as can be: any backup is promoted whenever it is woken.
"""

import msgspec
import pytest

from viewstamp.core.ids import Instant
from viewstamp.protocols.primary_backup import DEFINITION, PrimaryBackupCore, PrimaryBackupOptions
from viewstamp.protocols.primary_backup.epoch import EpochCampaign
from viewstamp.protocols.primary_backup.state import Role
from viewstamp.sim.explorer import Bounds, Exploration, Explorer

OPTIONS = PrimaryBackupOptions(log_bytes_max=None)


class Restless(PrimaryBackupCore):
    """A member that the operator promotes whenever it is woken, even under a primary."""

    __slots__ = ()

    @property
    def deadline(self) -> Instant | None:
        """At once, where it may be promoted."""
        return self.state.now if self._is_promoted() else super().deadline

    def _is_promoted(self) -> bool:
        state = self.state
        return state.role is Role.BACKUP and state.counts and not self.campaign.is_under_way

    def _wake(self) -> None:
        if self._is_promoted():
            self.campaign.begin((self.state.members[0], 1))
        else:
            super()._wake()


def explore(size: int, bounds: Bounds) -> Exploration:
    definition = msgspec.structs.replace(DEFINITION, make_core=Restless)
    return Explorer(definition, options=OPTIONS, bounds=bounds, size=size).explore()


@pytest.mark.slow
def test_two_members_when_a_command_is_ordered_and_the_other_promoted_in_every_way() -> None:
    found = explore(2, Bounds(timeouts=1, proposals=1, crashes=0))
    assert found.violation is None
    assert found.complete
    assert found.states > 5_000


@pytest.mark.slow
def test_three_members_when_two_are_promoted_hold_every_invariant() -> None:
    wide = explore(3, Bounds(timeouts=2, proposals=1, crashes=0, states_max=8_000))
    deep = explore(3, Bounds(timeouts=3, proposals=1, crashes=1, depth_first=True, states_max=8_000))
    assert (wide.violation, deep.violation) == (None, None)
    assert wide.states + deep.states >= 16_000


def test_two_primaries_are_found_when_a_candidate_does_not_wait_for_a_majority(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(EpochCampaign, "_granted", lambda _, newest: list(newest.configuration.electors))
    found = explore(3, Bounds(timeouts=2, proposals=1, crashes=0, states_max=8_000))
    assert found.violation is not None
    assert "lead view 2" in str(found.violation)
