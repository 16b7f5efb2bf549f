from pathlib import Path

from tests.runtime.fakes import cluster_of
from viewstamp.core.ids import Incarnation, NodeId, Seqno, View, Viewstamp
from viewstamp.core.protocol import MembershipStatus
from viewstamp.runtime.address_book import KNOWN_MAX, NAME, AddressBook

FOUR = NodeId(4)
AT = Viewstamp(View(1), Seqno(7))


def membership(*nodes: int) -> MembershipStatus:
    return MembershipStatus(AT, True, tuple((NodeId(node), Incarnation(node)) for node in nodes))


def book(folder: Path, *ports: int) -> AddressBook:
    return AddressBook(cluster_of(*ports), NodeId(1), str(folder))


def test_address_when_the_file_lists_it_is_that(tmp_path: Path) -> None:
    assert book(tmp_path, 7001, 7002).address_of(NodeId(2)) == ("127.0.0.1", 7002)
    assert book(tmp_path, 7001).address_of(FOUR) is None


def test_address_when_it_was_learnt_is_kept_over_a_restart(tmp_path: Path) -> None:
    first = book(tmp_path, 7001, 7002)
    assert first.learn(FOUR, ("Host", 7004))
    assert not first.learn(FOUR, ("host", 7004)), "no news"
    first.save()
    assert book(tmp_path, 7001, 7002).address_of(FOUR) == ("host", 7004)
    assert book(tmp_path, 7001, 7002).known([NodeId(2), FOUR, NodeId(9)]) == [
        (2, "127.0.0.1", 7002),
        (4, "host", 7004),
    ]


def test_address_when_the_file_was_changed_since_wins_over_what_was_learnt(tmp_path: Path) -> None:
    first = book(tmp_path, 7001, 7002)
    first.learn(NodeId(2), ("elsewhere", 1))
    first.save()
    assert book(tmp_path, 7001, 7002).address_of(NodeId(2)) == ("elsewhere", 1)
    assert book(tmp_path, 8001, 8002).address_of(NodeId(2)) == ("127.0.0.1", 8002)


def test_address_when_it_cannot_be_one_is_not_learnt(tmp_path: Path) -> None:
    known = book(tmp_path, 7001)
    assert not known.learn(FOUR, ("", 7004))
    assert not known.learn(FOUR, ("h", 0))
    assert not known.learn(NodeId(-1), ("h", 7))
    assert known.address_of(FOUR) is None


def test_addresses_when_they_are_too_many_are_not_kept(tmp_path: Path) -> None:
    known = book(tmp_path, 7001)
    learnt = [known.learn(NodeId(10 + number), ("h", 1)) for number in range(KNOWN_MAX + 5)]
    assert learnt == [True] * KNOWN_MAX + [False] * 5


def test_file_when_it_is_damaged_is_as_if_it_were_missing(tmp_path: Path) -> None:
    for content in (b"", b"{", b'{"learnt": 3}', b"\xff" * 10):
        (tmp_path / NAME).write_bytes(content)
        assert book(tmp_path, 7001).address_of(FOUR) is None


def test_cluster_file_when_it_was_edited_against_the_log_is_refused(tmp_path: Path) -> None:
    book(tmp_path, 1, 2, 3, 4, 5).save()
    why = book(tmp_path, 1, 2, 3).contradiction(membership(1, 2, 3, 4, 5))
    assert why is not None
    assert why.startswith("the cluster file was edited and lists 1, 2, 3, but the members are 1, 2, 3, 4, 5")
    assert "`viewstamp member list --toml`" in why


def test_cluster_file_when_it_merely_is_old_is_not_refused(tmp_path: Path) -> None:
    book(tmp_path, 1, 2, 3).save()
    assert book(tmp_path, 1, 2, 3).contradiction(membership(1, 2, 3, 4, 5)) is None
    assert book(tmp_path, 1, 2, 3).contradiction(membership(4, 5, 6)) is None


def test_cluster_file_when_it_was_brought_up_to_date_is_not_refused(tmp_path: Path) -> None:
    book(tmp_path, 1, 2, 3).save()
    assert book(tmp_path, 1, 2, 3, 4).contradiction(membership(1, 2, 3, 4)) is None
    assert book(tmp_path, 1, 2).contradiction(None) is None, "the log does not know yet"


def test_cluster_file_when_the_node_never_ran_is_not_refused(tmp_path: Path) -> None:
    assert book(tmp_path, 1, 2).contradiction(membership(1, 2, 3)) is None
