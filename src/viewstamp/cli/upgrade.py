"""`viewstamp upgrade`: which versions are in force, raising them, and whether a class may be deployed."""

from pathlib import Path
from typing import Annotated, Final

from viewstamp.cli.failures import DONE, REFUSED
from viewstamp.cli.flags import AsJson, ClusterFile, Flag, Timeout
from viewstamp.cli.migrated_elsewhere import elsewhere
from viewstamp.cli.operate import direct, find_leader
from viewstamp.cli.output import printable, show_json, show_table
from viewstamp.cli.serve import load_machine
from viewstamp.cli.standing import read_backup, read_directory
from viewstamp.cli.status import ask_all
from viewstamp.cli.stream_places import KeyFile, Source
from viewstamp.cli.target import CLUSTER_FILE, check_timeout, load_cluster
from viewstamp.core.errors import ConfigurationError
from viewstamp.core.events import Finalize
from viewstamp.core.ids import NodeId
from viewstamp.core.protocol import Status, VersionsStatus
from viewstamp.machine.evolution import version_of
from viewstamp.replica.compatibility import judge_class
from viewstamp.replica.options import SessionLimits

_NO_CODE: Final = (
    "does not say what the code of the class was: what no entry in it has called was not compared; take one "
    "with this version of viewstamp"
)
_HEAD: Final = ("NODE", "LEVEL", "OF", "CLASS_VERSION", "OF", "STATE")


def status(*, cluster: ClusterFile = Path(CLUSTER_FILE), timeout: Timeout = 2.0, json: AsJson = False) -> int:
    """Show, for each node, what is in force and what its code can do.

    Exit code 1: a node does not answer, or waits for newer code.
    """
    config = load_cluster(cluster)
    answers = ask_all(config, check_timeout(timeout))
    if json:
        show_json({"cluster_id": config.cluster_id, "nodes": [_document(*item) for item in answers.items()]})
    else:
        show_table(_HEAD, [_row(*item) for item in answers.items()])
        for node, answer in answers.items():
            trouble = answer if isinstance(answer, str) else answer.waiting_for
            if trouble:
                print(f"node {node}: {printable(trouble)}")
    well = all(isinstance(answer, Status) and not answer.waiting_for for answer in answers.values())
    return DONE if well else REFUSED


def finalize(
    level: int | None = None,
    /,
    *,
    cluster: ClusterFile = Path(CLUSTER_FILE),
    timeout: Timeout = 60.0,
) -> None:
    """Raise the level and the version of the class to what the leader's code can do, by an entry of the log.

    Every member must run code that can: nothing is raised otherwise. Code from before cannot come back after
    this. Migrations run at that entry, on every replica; commands wait until they are done.
    """
    config = load_cluster(cluster)
    check_timeout(timeout)
    leader = find_leader(config, timeout)
    direct(config, leader, Finalize(level), timeout)
    answer = ask_all(config, min(timeout, 2.0)).get(leader)
    known = answer.versions if isinstance(answer, Status) else None
    in_force = "" if known is None else f": level {known.level}, class version {known.machine}"
    print(f"in force{in_force}")


def _versions(answer: Status | str) -> VersionsStatus | None:
    return None if isinstance(answer, str) else answer.versions


def _row(node: NodeId, answer: Status | str) -> list[object]:
    known = _versions(answer)
    if known is None:
        return [node, "-", "-", "-", "-", "unreachable" if isinstance(answer, str) else "-"]
    level = "-" if known.level < 0 else known.level
    machine = known.machine or "-"
    return [node, level, known.level_max, machine, known.machine_max, _state(answer, known)]


def _state(answer: Status | str, known: VersionsStatus) -> str:
    if isinstance(answer, Status) and answer.waiting_for.startswith("waiting for newer code"):
        return "waiting for newer code"
    return "to be finalized" if known.pending else "in force"


def _document(node: NodeId, answer: Status | str) -> dict[str, object]:
    known = _versions(answer)
    if known is None:
        return {"node": node, "reachable": not isinstance(answer, str)}
    fields = {name: getattr(known, name) for name in known.__struct_fields__}
    return {"node": node, "reachable": True, **fields, "state": _state(answer, known)}


def check(
    machine: Annotated[str, Flag("The new class, as MODULE:CLASS.")],
    /,
    *,
    data: Annotated[Path | None, Flag("A data directory; a server may run on it.")] = None,
    backup: Annotated[str | None, Flag("A backup, as `viewstamp backup` writes it.")] = None,
    identity: KeyFile = None,
    allow: Annotated[tuple[str, ...], Flag("A method that may give other results.")] = (),
    cluster: ClusterFile = Path(CLUSTER_FILE),
) -> int:
    """Say whether a class may be deployed: run it, and its migrations, on a copy of what was executed.

    Exit code 1: it would split the replicas or lose state; each line names the attribute or the method.
    """
    cls = load_machine(machine)
    limits = load_cluster(cluster).replica_options.sessions if cluster.exists() else SessionLimits()
    if (data is None) == (backup is None):
        raise ConfigurationError("say on what to check the class: --data DIR or --backup FILE")
    source = read_directory(str(data)) if data is not None else read_backup(Source(str(backup), identity))
    verdict = judge_class(
        cls,
        source.snapshot,
        source.entries,
        source.limits or limits,
        code=source.code,
        allow=allow,
        elsewhere=elsewhere(machine),
        digest=source.digest,
    )
    for problem in verdict.problems:
        print(f"refused: {printable(problem)}")
    if not source.code:
        print(f"note: {'the backup' if data is None else 'the directory'} {_NO_CODE}")
    for note in verdict.notes:
        print(f"note: {printable(note)}")
    print(f"in force: version {verdict.in_force or '-'}; this class has version {version_of(cls)}")
    if verdict.oldest:
        print(f"the oldest version that the snapshot or the log needs: {verdict.oldest}")
    for name in verdict.deletable:
        print(f"may be deleted: {name}()")
    if not verdict.problems:
        migrated = ", migrations included" if verdict.migrated else ""
        print(f"{verdict.executed} entries executed again with equal results{migrated}: it may be deployed")
    return REFUSED if verdict.problems else DONE
