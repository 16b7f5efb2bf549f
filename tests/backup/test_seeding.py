"""A new cluster out of a state: on each protocol, of any size, with positions that nobody had before."""

import asyncio
import itertools
from pathlib import Path

import msgspec
import pytest

from tests.backup.shops import (
    LIMITS,
    Shop,
    backup_header,
    batch,
    executed,
    log_of,
    shop_log,
    stream_of,
    submit,
)
from viewstamp.backup.execution import Execution, NotReproduced, entries_of, verify
from viewstamp.backup.seeding import (
    ADVANCE,
    ENTRIES_PER_S,
    LIFE_MAX,
    NewCluster,
    begin_new_life,
    check_new,
    draw_life,
    leap,
    write_directory,
)
from viewstamp.core.errors import ConfigurationError, NotExecuted
from viewstamp.core.events import TransferLeadership
from viewstamp.core.ids import SEQNO_MAX, NodeId, Seqno, View, Viewstamp, fencing_token
from viewstamp.core.messages import CloseSession, OpenSession
from viewstamp.core.snapshots import BytesSnapshot
from viewstamp.machine.definition import MachineDefinition
from viewstamp.machine.state_machine import StateMachine, command
from viewstamp.replica.options import SessionLimits
from viewstamp.replica.replicated_state import ReplicatedState
from viewstamp.runtime.addresses import LOOPBACK, free_ports
from viewstamp.runtime.config import ClusterConfig, Member, NodeConfig
from viewstamp.runtime.connecting import connect
from viewstamp.runtime.local import LocalCluster
from viewstamp.storage.files import OsFileSystem
from viewstamp.stream.decoder import read_records
from viewstamp.stream.records import LogEntry, Record, SnapshotHead, StreamDamaged

FILES = OsFileSystem()


class Fence(StateMachine):
    """Locks with tokens, held by sessions."""

    holder: int = 0
    tokens: list[int] = []  # noqa: RUF012  copied for each instance

    @command
    def acquire(self) -> int | None:
        if self.holder:
            return None
        self.holder = self.context.client
        self.tokens.append(self.context.token)
        return self.context.token

    def session_ended(self, client: int) -> None:
        if self.holder == client:
            self.holder = 0
            self.tokens.append(self.context.token)


class Store:
    """A store that refuses every token that is older than the newest it has seen."""

    def __init__(self) -> None:
        self.highest = 0

    def write(self, token: int) -> bool:
        if token < self.highest:
            return False
        self.highest = token
        return True


def config(cluster_id: str, protocol: str, members: int) -> ClusterConfig:
    ports = free_ports(members)
    listed = tuple(Member(number, LOOPBACK, port) for number, port in enumerate(ports, 1))
    return ClusterConfig(cluster_id=cluster_id, protocol=protocol, members=listed)


def fenced(view: int = 3) -> tuple[Execution, int]:
    """Return a state in which a session holds the lock, and the session's number."""
    entries = log_of(Fence, [batch(1, OpenSession(9)), b""])
    execution = Execution(Fence, LIMITS)
    for entry in entries:
        execution.execute(entry)
    (session,) = execution.state.sessions
    data = batch(3, submit(1, "acquire", client=9, session=session.number))
    execution.execute(LogEntry(View(view), Seqno(3), 0, data))
    assert execution.state.runner.machine.holder == 9  # type: ignore[attr-defined]
    return execution, session.number


def write(folder: Path, new: ClusterConfig, execution: Execution, life: int = 7) -> None:
    cluster = NewCluster(new.cluster_id, new.protocol, new.node_ids, life)
    folder.mkdir()
    for node in new.node_ids:
        write_directory(FILES, str(folder / f"node-{node}"), cluster, node, execution, segment_bytes=1 << 16)


def goes_on(execution: Execution) -> tuple[int, int]:
    """Let a new client take the lock; return the numbers of its session and of its token."""
    at = execution.state.applied.seqno
    execution.execute(LogEntry(View(3), Seqno(at + 1), 0, batch(at + 1, OpenSession(11))))
    *_, session = execution.state.sessions
    taken = submit(1, "acquire", client=11, session=session.number)
    execution.execute(LogEntry(View(3), Seqno(at + 2), 0, batch(at + 2, taken)))
    machine = execution.state.runner.machine
    assert isinstance(machine, Fence)
    assert machine.holder == 11
    return session.number, machine.tokens[-1]


BACKUP_S = 1_800_000_000
"""When the backups of these tests were taken."""


def restored(saved: BytesSnapshot, later_s: int) -> Execution:
    """Return a new life of a backup, begun `later_s` seconds after the backup was taken."""
    execution = Execution(Fence, LIMITS)
    execution.restore(saved)
    begin_new_life(execution, advance=leap(draw_life(5, BACKUP_S + later_s), BACKUP_S))
    return execution


def test_a_backup_that_is_restored_again_uses_no_number_of_the_life_before() -> None:
    original, session = fenced()
    machine = original.state.runner.machine
    assert isinstance(machine, Fence)
    saved, store = original.saved(), Store()
    assert store.write(machine.tokens[-1])
    sessions, begins = [session], list[int]()
    for later_s in (0, 60, 3_600, 30 * 86_400):
        execution = restored(saved, later_s)
        begins.append(execution.state.applied.seqno)
        number, token = goes_on(execution)
        assert token > store.highest, "a store that has seen all lives before takes the newest alone"
        assert store.write(token)
        sessions.append(number)
    assert len(set(sessions)) == len(sessions)
    grown = [after - before for before, after in itertools.pairwise(begins)]
    assert grown == [seconds * ENTRIES_PER_S for seconds in (60, 3_540, 30 * 86_400 - 3_600)], (
        "whatever a log of a life gets until the next one begins lies below the next one"
    )


def test_a_restore_of_a_restore_uses_no_number_twice() -> None:
    execution, session = fenced()
    machine = execution.state.runner.machine
    assert isinstance(machine, Fence)
    sessions, tokens = [session], [machine.tokens[-1]]
    for later_s in (10, 10, 10):
        execution = restored(execution.saved(), later_s)
        number, token = goes_on(execution)
        sessions.append(number)
        tokens.append(token)
    assert tokens == sorted(set(tokens))
    assert len(set(sessions)) == 4
    assert execution.state.applied.seqno < 4 * (ADVANCE + 10 * ENTRIES_PER_S)


def test_a_life_says_when_it_was_drawn() -> None:
    life = draw_life((1 << 63) - 1, BACKUP_S)
    assert 0 < life <= LIFE_MAX
    assert draw_life(1, BACKUP_S) != draw_life(2, BACKUP_S)
    assert leap(life, BACKUP_S) == leap(life, BACKUP_S + 600) == ADVANCE, "clocks differ by minutes"
    assert leap(life, BACKUP_S - 5) == ADVANCE + 5 * ENTRIES_PER_S
    assert leap(4711, BACKUP_S) == ADVANCE, "one that was not drawn says no time"
    with pytest.raises(ConfigurationError, match=r"601 s after the time that this machine's clock showed"):
        leap(life, BACKUP_S + 601)


@pytest.mark.parametrize("protocol", ["raft", "viewstamped", "primary_backup"])
@pytest.mark.parametrize("members", [1, 3, 5])
async def test_restored_cluster_serves_with_tokens_above_all_others(
    protocol: str, members: int, tmp_path: Path
) -> None:
    execution, session = fenced()
    machine = execution.state.runner.machine
    assert isinstance(machine, Fence)
    store = Store()
    old = max(machine.tokens)
    reached = begin_new_life(execution)
    assert reached == Viewstamp(View(3), Seqno(3 + ADVANCE))
    new = config("new", protocol, members)
    write(tmp_path / "data", new, execution)
    async with LocalCluster(Fence, new, NodeConfig(segment_bytes=1 << 16), tmp_path / "data") as cluster:
        if protocol == "primary_backup":
            assert await cluster.servers[NodeId(1)].direct(TransferLeadership(NodeId(1))) is None
        await cluster.leader()
        async with connect(new, Fence) as fence:
            token = await fence.acquire()
        assert token is not None
        assert token > fencing_token(Seqno(3 + ADVANCE - 1), 0) > max(old, session)
        assert store.write(token)
        assert not any(store.write(one) for one in (old, session, fencing_token(Seqno(ADVANCE), 0)))
        async with asyncio.timeout(10):
            while len({status.applied for status in cluster.statuses().values()}) > 1:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def test_state_before_the_first_command_is_restored_as_nothing_in_force(tmp_path: Path) -> None:
    execution = Execution(Fence, LIMITS)
    execution.execute(LogEntry(View(1), Seqno(1), 0, b""))
    again = Execution(Fence, LIMITS)
    again.restore(execution.saved())
    assert again.state.versions is execution.state.versions is None
    begin_new_life(again)
    new = config("new", "raft", 1)
    write(tmp_path / "data", new, again)
    async with LocalCluster(Fence, new, NodeConfig(segment_bytes=1 << 16), tmp_path / "data") as cluster:
        await cluster.leader()
        async with connect(new, Fence) as fence:
            assert await fence.acquire() is not None


def test_sessions_end_and_the_machine_is_told() -> None:
    execution, number = fenced()
    begin_new_life(execution)
    state = execution.state
    machine = state.runner.machine
    assert isinstance(machine, Fence)
    assert (machine.holder, len(state.sessions)) == (0, 0)
    assert machine.tokens[-1] == fencing_token(Seqno(3 + ADVANCE), 0)
    assert state.sessions.use(number, 9, state.log_time) is None


def test_copy_of_an_old_call_is_not_answered_as_a_duplicate() -> None:
    execution, number = fenced()
    begin_new_life(execution)
    entry = LogEntry(View(3), Seqno(4 + ADVANCE), 0, batch(4, submit(1, "acquire", client=9, session=number)))
    ((_, lines),) = execution.execute(entry, results=True).items()
    assert [kind for _, kind, _ in lines] == [3]
    assert execution.state.runner.machine.holder == 0  # type: ignore[attr-defined]


def test_new_session_has_a_number_that_no_old_one_had() -> None:
    execution, number = fenced()
    begin_new_life(execution)
    execution.execute(LogEntry(View(3), Seqno(4 + ADVANCE), 0, batch(4, OpenSession(9))))
    (session,) = execution.state.sessions
    assert session.number > fencing_token(Seqno(3 + ADVANCE), 0) > number


@pytest.mark.parametrize("advance", [0, -1, SEQNO_MAX - ADVANCE, SEQNO_MAX, 1 << 70])
def test_advance_that_leaves_no_positions_is_refused(advance: int) -> None:
    execution, _ = fenced()
    with pytest.raises(ConfigurationError, match="--advance"):
        begin_new_life(execution, advance=advance)
    assert execution.state.applied.seqno == 3
    assert len(execution.state.sessions) == 1


def test_last_position_that_is_allowed_makes_tokens_of_63_bits() -> None:
    execution, _ = fenced()
    reached = begin_new_life(execution, advance=SEQNO_MAX - ADVANCE - 3)
    assert fencing_token(Seqno(reached.seqno + ADVANCE - 1), 0).bit_length() <= 63


def test_same_cluster_id_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="another cluster_id"):
        check_new(NewCluster("old", "raft", (NodeId(1),), 1), "old")


def test_directory_that_is_not_empty_is_refused(tmp_path: Path) -> None:
    execution, _ = fenced()
    begin_new_life(execution)
    cluster = NewCluster("new", "raft", (NodeId(1),), 1)
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path, tmp_path / "file"):
        with pytest.raises(ConfigurationError, match="not empty"):
            write_directory(FILES, str(path), cluster, NodeId(1), execution)
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_incarnations_differ_between_lives_members_and_clusters() -> None:
    members = tuple(NodeId(number) for number in (1, 2, 3))
    drawn = {
        NewCluster(name, "raft", members, life).incarnation(node)
        for name in ("a", "b")
        for life in (1, 2)
        for node in members
    }
    assert len(drawn) == 12
    again = NewCluster("a", "raft", members, 1)
    assert again.incarnation(NodeId(1)) == NewCluster("a", "raft", members, 1).incarnation(NodeId(1))


def test_view_beyond_a_history_is_refused_by_viewstamped() -> None:
    execution, _ = fenced(view=2_000_000)
    begin_new_life(execution)
    with pytest.raises(ConfigurationError, match="another protocol"):
        NewCluster("new", "viewstamped", (NodeId(1),), 1).seed(execution.state.applied)


async def test_members_and_clients_of_a_clone_and_its_original_do_not_meet(tmp_path: Path) -> None:
    execution, _ = fenced()
    begin_new_life(execution)
    new = config("new", "raft", 1)
    write(tmp_path / "data", new, execution)
    stranger = ClusterConfig(cluster_id="old", protocol="raft", members=new.members)
    async with LocalCluster(Fence, new, NodeConfig(segment_bytes=1 << 16), tmp_path / "data") as cluster:
        await cluster.leader()
        async with connect(stranger, Fence, timeout_s=0.5) as fence:
            with pytest.raises(NotExecuted, match="refused this client"):
                await fence.acquire()
        assert cluster.statuses()[NodeId(1)].applied == cluster.statuses()[NodeId(1)].last.seqno


def test_verify_names_the_entry_at_which_a_class_differs() -> None:
    class Other(Fence):
        @command
        def acquire(self) -> int | None:
            return 1

    entries = log_of(Fence, [batch(1, submit(1, "acquire")), batch(2, CloseSession(1, 2))])

    stream = stream_of(entries)
    assert verify(read_records([stream]), Execution(Fence, LIMITS)) == 2
    with pytest.raises(NotReproduced, match=r"other results at entry 1\.1"):
        verify(read_records([stream]), Execution(Other, LIMITS))


@pytest.mark.parametrize("size_bytes", [0, 8])
def test_execution_when_the_snapshot_never_came_is_refused_instead_of_empty(size_bytes: int) -> None:
    head = SnapshotHead(size_bytes, 0, 1, b"")
    header = msgspec.structs.replace(backup_header(executed(shop_log(5)), b""), snapshot=head)
    streams: list[list[Record]] = [[header], [header, *shop_log(6)[5:]]]
    for records in streams:
        with pytest.raises(StreamDamaged, match="no complete snapshot"):
            list(entries_of(records, Execution(Shop, LIMITS)))


def test_shop_is_restored_as_it_was() -> None:

    log = shop_log(120)
    whole = executed(log)
    restored = Execution(Shop, LIMITS)
    for entry in entries_of(read_records([stream_of(log, executed(log[:60]))]), restored):
        restored.execute(entry)
    assert restored.saved().body == whole.saved().body


class Reborn(StateMachine):
    """Remembers under which token it goes on as another cluster."""

    began: list[int] = []  # noqa: RUF012  copied for each instance

    @command
    def nothing(self) -> None:
        """Do nothing."""

    def life_begins(self) -> None:
        self.began.append(self.context.token)


def test_a_machine_hears_that_a_life_begins_under_a_token_beyond_all_before() -> None:
    state = ReplicatedState(MachineDefinition.of(Reborn), SessionLimits())
    state.begin_new_life(Viewstamp(View(1), Seqno(100)))
    machine = state.runner.machine
    assert isinstance(machine, Reborn)
    assert machine.began == [fencing_token(Seqno(100), 0)]
