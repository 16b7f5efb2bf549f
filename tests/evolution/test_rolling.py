"""A class is changed while it runs: results and states stay equal, behaviour changes at one entry."""

from itertools import permutations

import msgspec
import pytest

from tests.evolution.group import LEADER, Group
from tests.evolution.shops import failing, first, second
from tests.replica.fakes import Bench
from viewstamp.core.effects import Apply, Entry
from viewstamp.core.ids import NodeId, Seqno, View, Viewstamp
from viewstamp.core.messages import INVALID, RESULT
from viewstamp.core.snapshots import Versions
from viewstamp.machine.evolution import REMOVED
from viewstamp.machine.state_machine import StateMachine

OLD, NEW, FAILING = first(), second(), failing()


def filled(*classes: type[StateMachine]) -> Group:
    group = Group(*classes)
    assert group.call("name", "ann", "Ann Lee") == (RESULT, 1)
    assert group.call("buy", "tea")[0] == RESULT
    return group


def machine(group: Group, node: int) -> StateMachine:
    return group.benches[NodeId(node)].replica.machine


@pytest.mark.parametrize("order", list(permutations((1, 2, 3))))
def test_nothing_differs_when_a_class_is_deployed_one_node_at_a_time(order: tuple[int, ...]) -> None:
    group = filled(OLD, OLD, OLD)
    for node in order:
        group.restart(node, NEW)
        assert group.call("buy", "milk")[0] == RESULT
        assert group.call("name", f"bob{node}", "Bob Ray")[0] == RESULT
        group.require_equal()
        assert not group.waiting
    assert group.finalize() is None
    assert group.call("refund", 1) == (RESULT, 7)
    assert group.call("buy", "jam", 9)[0] == RESULT
    group.require_equal()
    assert {bench.replica.state.versions for bench in group.benches.values()} == {Versions(1, 2)}


@pytest.mark.parametrize("order", list(permutations((1, 2, 3))))
def test_the_old_class_comes_back_when_nothing_was_finalized(order: tuple[int, ...]) -> None:
    group = filled(OLD, OLD, OLD)
    for node in order:
        group.restart(node, NEW)
    group.call("buy", "milk")
    for node in order:
        group.restart(node, OLD, group.save(node) if node != 2 else None)
        group.call("buy", "jam")
        group.require_equal()
    assert not group.waiting


def test_results_of_the_new_class_have_its_fields_before_it_is_in_force_and_digests_do_not() -> None:
    group = filled(OLD, OLD, OLD)
    group.restart(1, NEW)
    assert group.call("buy", "milk") == (RESULT, {"item": "milk", "number": 2, "price": 7})
    group.require_equal()


def test_behaviour_changes_at_the_entry_and_not_before() -> None:
    group = filled(OLD, OLD, OLD)
    for node in (1, 2, 3):
        group.restart(node, NEW)
    kind, why = group.call("refund", 1)
    assert kind == INVALID
    assert "refund exists since version 2, and version 1 is in force" in str(why)
    kind, why = group.call("buy", "tea", 9)
    assert kind == INVALID
    assert "'price' is new and not in force" in str(why)
    assert machine(group, 1).names == {"ann": "Ann Lee"}  # type: ignore[attr-defined]
    assert group.finalize() is None
    assert machine(group, 1).people == {"ann": ("Ann", "Lee")}  # type: ignore[attr-defined]
    assert machine(group, 1).names is REMOVED  # type: ignore[attr-defined]
    assert machine(group, 2).seen == 0, "what was new begins with its default"  # type: ignore[attr-defined]
    group.require_equal()


def test_a_migration_runs_once_and_never_when_a_snapshot_is_loaded() -> None:
    group = filled(OLD, OLD, OLD)
    before = group.save(2)
    for node in (1, 2, 3):
        group.restart(node, NEW)
    group.restart(3, NEW, before)
    assert machine(group, 3).names == {"ann": "Ann Lee"}, "a state of version 1"  # type: ignore[attr-defined]
    group.finalize()
    group.call("name", "ann", "Eve Fox")
    after = group.save(1)
    group.restart(2, NEW, after)
    group.restart(3, NEW, before)
    group.restart(1, NEW)
    group.require_equal()
    assert machine(group, 2).people == {"ann": ("Eve", "Fox")}  # type: ignore[attr-defined]


def test_old_code_waits_for_newer_code_at_the_entry_and_goes_on_with_it() -> None:
    group = filled(OLD, OLD, OLD)
    group.restart(1, NEW)
    group.restart(2, NEW)
    group.announce(NodeId(3), machine=2)  # it had the new class, and comes back with the old one
    group.benches[LEADER].replica._upgrades.announced[NodeId(3)] = group.benches[
        LEADER
    ].replica._upgrades.announced[NodeId(2)]
    assert group.finalize() is None
    assert group.waiting == {3: "waiting for newer code at 1.3: it needs version 2 of Shop; this code has 1"}
    group.call("buy", "milk")
    group.require_equal()
    group.restart(3, OLD, group.save(1))
    assert "at 1.4: it needs version 2 of Shop" in group.waiting[NodeId(3)]
    group.restart(3, NEW, group.save(1))
    assert not group.waiting
    group.require_equal()


@pytest.mark.parametrize("machine_version", [1, None])
def test_nothing_is_raised_when_a_member_cannot(machine_version: int | None) -> None:
    group = filled(OLD, OLD, OLD)
    group.restart(1, NEW)
    group.restart(2, NEW)
    if machine_version is None:
        del group.benches[LEADER].replica._upgrades.announced[NodeId(3)]
    refusal = group.finalize()
    expected = "has version 1 of the class, not 2" if machine_version else "has not been heard of"
    assert f"nothing was raised: node 3 {expected}" in str(refusal)
    assert {bench.replica.state.versions for bench in group.benches.values()} == {Versions(1, 1)}


def test_nothing_is_raised_and_nothing_changes_when_a_migration_raises() -> None:
    group = filled(OLD, OLD, OLD)
    for node in (1, 2, 3):
        group.restart(node, FAILING)
    refusal = group.finalize()
    assert "Shop._split_names: ValueError: a name that cannot be split" in str(refusal)
    assert machine(group, 2).people == {}  # type: ignore[attr-defined]
    group.require_equal()
    assert {bench.replica.state.versions for bench in group.benches.values()} == {Versions(1, 1)}
    for node in (1, 2, 3):
        group.restart(node, NEW)
    assert group.finalize() is None
    group.require_equal()


def test_a_new_log_begins_with_the_version_of_its_class() -> None:
    group = Group(NEW, NEW, NEW)
    assert group.call("buy", "tea", 5)[0] == RESULT
    assert group.call("refund", 1) == (RESULT, 5)
    assert machine(group, 2).names is REMOVED  # type: ignore[attr-defined]
    group.require_equal()
    assert group.finalize() is None, "all of it is in force"
    assert len(group.log) == 2


def test_a_retry_is_the_same_command_when_the_class_has_got_an_argument_meanwhile() -> None:
    group = filled(OLD, OLD, OLD)
    entry = group.log[1].entry.data
    for node in (1, 2, 3):
        group.restart(node, NEW)
    group.finalize()
    group.call("buy", "tea")
    sent = [msgspec.msgpack.decode(data)[4][0][4][0][1] for data in (entry, group.log[-1].entry.data)]
    assert sent == [["buy", "tea"], ["buy", "tea"]]


def test_nothing_is_in_force_after_a_snapshot_that_was_taken_before_the_first_entry() -> None:
    bench = Bench(OLD)
    bench.feed(Apply(Entry(Viewstamp(View(1), Seqno(1)), b"")))
    taken = bench.save()
    again = Bench(NEW, snapshot=taken)
    assert again.replica.state.versions is None
    assert again.save().body == taken.body
