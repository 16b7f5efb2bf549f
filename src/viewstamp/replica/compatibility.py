"""Whether a class may be deployed on a log and its snapshot: what `viewstamp upgrade check` finds out.

The class must do all that is in force there. What was executed is executed again, and must give the results
that the log knows of. Then the migrations run, on a copy that nobody keeps.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final

import msgspec

from viewstamp.core.effects import Entry
from viewstamp.core.errors import ConfigurationError
from viewstamp.core.snapshots import Snapshot
from viewstamp.machine.definition import MachineDefinition
from viewstamp.machine.evolution import migrations_of, version_of
from viewstamp.machine.interface import differences, interface_of, new_members_in_state
from viewstamp.machine.runner import MigrationFailed
from viewstamp.machine.schema import parts_of
from viewstamp.machine.state_machine import StateMachine
from viewstamp.replica.answers import Answers
from viewstamp.replica.batches import BatchUnreadable, Decoders, decode_batch
from viewstamp.replica.code_check import code_problems, uses_of_removed
from viewstamp.replica.migration_check import Elsewhere, migrated_digest, unmigrated
from viewstamp.replica.options import SessionLimits
from viewstamp.replica.replicated_state import ReplicatedState
from viewstamp.replica.skip_mark import read_skip_mark
from viewstamp.replica.snapshot_body import SnapshotUnreadable, read_preface, restore
from viewstamp.replica.versions import NewerCodeNeeded

_OTHER_RESULT: Final = (
    "a command up to here gives another result than it did: raise the version, and let it depend on "
    "self.context.version"
)


class Verdict(msgspec.Struct):
    """What was found out. No problem: the class may be deployed."""

    problems: list[str] = []
    """What would split the replicas or lose state, with the name of the attribute or method."""
    notes: list[str] = []
    """What may be deployed, and has to be finalized before it is used, by name."""
    oldest: int = 0
    """The lowest version that a snapshot or an entry still needs; 0: nothing says."""
    in_force: int = 0
    """The version in force at the end; 0: nothing says."""
    deletable: list[str] = []
    """Migrations that nothing needs."""
    executed: int = 0
    """Entries that were executed again."""
    migrated: bool = False
    """Whether the state was raised to the version of the class, on a copy."""


def judge_class(
    cls: type[StateMachine],
    snapshot: Snapshot | None,
    entries: Iterable[Entry],
    limits: SessionLimits,
    code: Mapping[str, str] | None = None,
    allow: Collection[str] = (),
    elsewhere: Elsewhere | None = None,
    digest: int | None = None,
) -> Verdict:
    """Return what would happen if this class ran on this snapshot and the entries after it.

    `code` is that of the class that ran; None: not known. `allow` names methods that may do something else.
    `digest` is that of the results up to the last entry, where it is known: no later entry tells it.
    `elsewhere` runs migrations in other processes, whose states must be equal.

    Raises:
        ConfigurationError: the class cannot be replicated at all.
    """
    definition = MachineDefinition.of(cls)
    verdict, state = Verdict(), ReplicatedState(definition, limits)
    if snapshot is not None:
        verdict.problems += _interface_problems(cls, *_standing(snapshot))
        try:
            state = restore(snapshot, state)
        except (NewerCodeNeeded, SnapshotUnreadable) as error:
            verdict.problems = verdict.problems or [str(error)]
            return verdict
        verdict.oldest = verdict.in_force = state.runner.in_force.version
    verdict.problems += uses_of_removed(cls, allow)
    whole = _execute(state, entries, verdict)
    if whole and digest is not None and state.chain.digest != digest:
        verdict.problems.append(f"entry {state.applied}: {_OTHER_RESULT}")
        whole = False
    if verdict.in_force:
        verdict.problems += code_problems(cls, code or {}, verdict.in_force, allow)
        verdict.notes = [
            f"{name} is new and may stand in the state: finalize before a command uses it, because code "
            "without it gives another result and cannot read a snapshot that holds it"
            for name in new_members_in_state(cls, state.runner.in_force.interface)
        ]
    if whole and not verdict.problems:
        _raise(state, verdict, elsewhere)
    verdict.deletable = [
        f"{prefix}{migration.name}"
        for prefix, part in parts_of(cls, "")
        for migration in migrations_of(part)
        if migration.to <= verdict.oldest
    ]
    return verdict


def _standing(snapshot: Snapshot) -> tuple[int, Mapping[str, str] | None]:
    preface = read_preface(snapshot)
    return preface.machine_version or 1, preface.interface


def _execute(state: ReplicatedState, entries: Iterable[Entry], verdict: Verdict) -> bool:
    """Execute what follows the state. False: a problem was found."""
    decoders = Decoders.of(state.definition)
    for entry in entries:
        if entry.viewstamp.seqno <= state.applied.seqno:
            continue
        where = f"entry {entry.viewstamp}"
        try:
            if not entry.data:
                state.skip(entry.viewstamp)
                continue
            batch = decode_batch(entry.data, decoders)
            declares = batch.declares
            if declares is not None and (state.versions is None or declares.raises):
                found = _interface_problems(state.definition.cls, declares.machine, declares.interface)
                verdict.problems += (problem for problem in found if problem not in verdict.problems)
            state.require_code_for(batch)
        except BatchUnreadable as error:
            mark = read_skip_mark(entry.data)
            if mark is None:
                verdict.problems.append(f"{where}: {error}")
                return False
            state.apply_mark(entry.viewstamp, mark, (), Answers())
            continue
        except NewerCodeNeeded as error:
            verdict.problems = verdict.problems or [f"{where}: {error}"]
            return False
        if state.chain.contradicts(batch.check):
            verdict.problems.append(f"{where}: {_OTHER_RESULT}")
            return False
        state.apply(entry.viewstamp, batch, (), Answers())
        verdict.executed += 1
        verdict.in_force = state.runner.in_force.version
        verdict.oldest = verdict.oldest or verdict.in_force
    return not verdict.problems


def _raise(state: ReplicatedState, verdict: Verdict, elsewhere: Elsewhere | None) -> None:
    """Run the migrations several times, each on a copy, and compare what they make."""
    if state.versions is None:
        return
    cls, before = state.definition.cls, unmigrated(state)
    verdict.migrated = version_of(cls) > verdict.in_force
    try:
        digests = {migrated_digest(cls, before)}
        if verdict.migrated:
            digests.add(migrated_digest(cls, before))
            digests.update(() if elsewhere is None else elsewhere(before))
    except MigrationFailed as error:
        verdict.migrated = False
        verdict.problems.append(f"the version would not be raised: {error}")
    except ConfigurationError as error:
        verdict.migrated = False
        verdict.problems.append(str(error))
    else:
        if len(digests) > 1:
            ran = {f"{one.name}()" for _, part in parts_of(cls, "") for one in migrations_of(part)}
            verdict.problems.append(
                f"{', '.join(sorted(ran))}: migrations make another state of the same one each time they "
                "run, and would split all replicas: let them depend on the state and self.context "
                "only, on no clock, random number or order of a set; viewstamp lint names the line"
            )


def _interface_problems(
    cls: type[StateMachine], version: int, interface: Mapping[str, str] | None
) -> Iterator[str]:
    """Yield what this class lacks of an interface."""
    own_version = version_of(cls)
    if version > own_version:
        yield f"version {version} is in force and this class has version {own_version}: it never goes down"
    elif interface is not None:
        yield from differences(interface_of(cls, version), interface)
