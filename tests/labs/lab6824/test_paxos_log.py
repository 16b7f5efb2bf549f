import re
from pathlib import Path

import pytest

from viewstamp.core.errors import JournalCorrupt
from viewstamp.core.ids import Incarnation, NodeId, PersistSeq, Seqno, View
from viewstamp.protocols.replication.log import COMMAND, EntryRecord
from viewstamp.protocols.viewstamped.journal import (
    ENCODER,
    AcceptedValue,
    Decided,
    History,
    Promised,
    Synchronised,
)
from viewstamp.protocols.viewstamped.membership import Member, Membership
from viewstamp.protocols.viewstamped.messages import Ballot
from viewstamp.protocols.viewstamped.paxos import Acceptor
from viewstamp_labs.lab6824.paxos_log import LoggedView, PaxosLog, read_log

GRAMMAR = re.compile(r"done (\d+) ([\d\s]+)")


def view(number: int, *nodes: int) -> Membership:
    members = tuple(Member(NodeId(node), Incarnation(1)) for node in nodes)
    return Membership(View(number), members, (members[0].node,), members[0].node)


ONE, TWO, THREE = view(1, 10), view(2, 10, 20), view(3, 10, 20, 30)
BALLOT = Ballot(7, NodeId(20))


def idle(instance: int = 4) -> Acceptor:
    return Acceptor(View(instance))


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "paxos-10.log"


def opened(path: Path, history: list[Membership], acceptor: Acceptor | None = None) -> PaxosLog:
    return PaxosLog(path, history, acceptor or idle())


def test_log_has_the_form_of_the_course_when_views_are_decided(path: Path) -> None:
    opened(path, [ONE, TWO, THREE]).close()
    assert path.read_text() == "done 1 10\ndone 2 10 20 \ndone 3 10 20 30 \n"
    assert all(GRAMMAR.fullmatch(line) for line in lines(path))


def test_record_is_written_when_it_is_durable_and_not_before(path: Path) -> None:
    log = opened(path, [ONE])
    log.note(PersistSeq(1), [ENCODER.encode(Promised(View(2), BALLOT))])
    log.note(
        PersistSeq(2), [ENCODER.encode(AcceptedValue(View(2), BALLOT, TWO)), ENCODER.encode(Decided(TWO))]
    )
    assert lines(path) == ["done 1 10"]
    log.durable(PersistSeq(1))
    assert lines(path) == ["done 1 10", "propseen 7 20"]
    log.durable(PersistSeq(2))
    assert lines(path)[2:] == ["accepted 7 20 10 20 ", "done 2 10 20 "]


def test_nothing_is_written_when_the_record_is_none_of_paxos(path: Path) -> None:
    log = opened(path, [ONE])
    log.note(
        PersistSeq(1),
        [
            ENCODER.encode(EntryRecord(View(1), Seqno(1), COMMAND, b"x")),
            ENCODER.encode(Synchronised(View(1))),
        ],
    )
    log.durable(PersistSeq(1))
    assert lines(path) == ["done 1 10"]


def test_view_is_written_once_when_the_history_is_written_again(path: Path) -> None:
    log = opened(path, [ONE])
    log.note(PersistSeq(1), [ENCODER.encode(History((ONE, TWO)))])
    log.note(PersistSeq(2), [ENCODER.encode(Decided(TWO)), ENCODER.encode(Decided(THREE))])
    log.durable(PersistSeq(2))
    assert [number for number, _ in read_log(path).views] == [1, 2, 3]


def test_log_catches_up_when_a_crash_kept_records_out_of_it(path: Path) -> None:
    opened(path, [ONE]).close()
    opened(path, [ONE, TWO], Acceptor(View(3), BALLOT, BALLOT, THREE)).close()
    assert lines(path) == ["done 1 10", "done 2 10 20 ", "accepted 7 20 10 20 30 "]


def test_log_does_not_grow_when_a_node_only_restarts(path: Path) -> None:
    acceptor = Acceptor(View(3), Ballot(8, NodeId(20)), BALLOT, THREE)
    opened(path, [ONE, TWO], acceptor).close()
    before = path.read_text()
    opened(path, [ONE, TWO], acceptor).close()
    assert path.read_text() == before
    assert "propseen 8 20" in before


@pytest.mark.parametrize(
    "torn", ["d", "done", "done 3", "done 3 10 20 30 ", "accepted 7 2", "propseen ", "prop"]
)
def test_torn_record_is_written_again_when_the_node_restarts(path: Path, torn: str) -> None:
    path.write_text("done 1 10\ndone 2 10 20 \n" + torn)
    log = opened(path, [ONE, TWO, THREE])
    assert path.read_text() == "done 1 10\ndone 2 10 20 \ndone 3 10 20 30 \n"
    assert str(path) in log.repaired
    assert "torn" in log.repaired


def test_nothing_is_said_when_nothing_was_torn(path: Path) -> None:
    assert opened(path, [ONE]).repaired == ""


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("done 1 10\nhello\n", 2),
        ("done 1 127.0.0.1:10\n", 1),
        ("done 1 10\naccepted 7\n", 2),
        ("done 1 10\nxyz", 2),
        ("done 1 10\ndonex 2", 2),
        ("\n", 1),
        ("done 1 10\n\xff\xff\n", 2),
    ],
)
def test_log_is_refused_in_one_line_and_left_alone_when_a_record_is_unknown(
    path: Path, text: str, line: int
) -> None:
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(JournalCorrupt) as caught:
        opened(path, [ONE])
    assert f"{path} line {line}: unknown record" in str(caught.value)
    assert "nothing was changed" in str(caught.value)
    assert str(caught.value).isprintable()
    assert path.read_bytes() == text.encode("latin-1")


@pytest.mark.parametrize("text", ["done 2 10\n", "done 1 10\ndone 3 10 20\n", "done 1 10\ndone 1 10\n"])
def test_log_is_refused_when_a_view_is_missing_or_doubled(path: Path, text: str) -> None:
    path.write_text(text)
    with pytest.raises(JournalCorrupt, match=r"view \d after view \d"):
        opened(path, [ONE, TWO, THREE])


@pytest.mark.parametrize("text", ["done 1 10\ndone 2 10 20 \n", "done 1 99\n"])
def test_log_is_refused_when_it_is_not_of_this_operation_log(path: Path, text: str) -> None:
    path.write_text(text)
    with pytest.raises(JournalCorrupt, match="not of one node or not of one moment"):
        opened(path, [ONE])
    assert path.read_text() == text


def test_log_is_read_when_its_lines_end_as_elsewhere(path: Path) -> None:
    path.write_bytes(b"done 1 10\r\npropseen 1 10\r\ndone 2 10 20 \r\n")
    assert read_log(path).views == [LoggedView(1, (10,)), LoggedView(2, (10, 20))]


def test_nothing_is_read_when_there_is_no_log(path: Path) -> None:
    assert read_log(path).views == []
