"""Each change that would split the replicas or lose state is refused by name, before or at the entry."""

import pytest

from tests.evolution.changes import CHANGES, Shop
from tests.evolution.group import LEADER, Group
from tests.evolution.shops import first, second
from viewstamp.core.effects import Entry
from viewstamp.core.messages import RESULT
from viewstamp.core.snapshots import BytesSnapshot
from viewstamp.machine.interface import code_of
from viewstamp.machine.state_machine import StateMachine
from viewstamp.replica.compatibility import Verdict, judge_class
from viewstamp.replica.migration_check import Unmigrated, migrated_digest
from viewstamp.replica.options import SessionLimits

STRUCTURAL = [name for name, change in CHANGES.items() if change.at_the_entry]
MIGRATIONS = [name for name in CHANGES if name.startswith("migration")]


def busy() -> Group:
    group = Group(Shop, Shop, Shop)
    for method, arguments in (("add", ("tea", 2)), ("keep", ("tea",)), ("add", ("jam",)), ("clear", ())):
        assert group.call(method, *arguments)[0] == RESULT
    return group


def entries(group: Group) -> list[Entry]:
    return [applied.entry for applied in group.log]


def judged(cls: type[StateMachine], group: Group, snapshot: BytesSnapshot | None = None) -> Verdict:
    return judge_class(cls, snapshot, entries(group), SessionLimits(), code=code_of(group.classes[LEADER]))


def test_there_are_enough_changes() -> None:
    assert len(CHANGES) >= 20


@pytest.mark.parametrize("from_snapshot", [False, True])
@pytest.mark.parametrize("name", list(CHANGES))
def test_check_refuses_by_name(name: str, from_snapshot: bool) -> None:
    group = busy()
    verdict = judged(CHANGES[name].cls, group, group.save(1) if from_snapshot else None)
    assert any(CHANGES[name].names in problem for problem in verdict.problems), verdict.problems


@pytest.mark.parametrize("name", STRUCTURAL)
def test_a_node_with_the_changed_class_waits_by_name_and_nobody_differs(name: str) -> None:
    group = busy()
    group.restart(3, CHANGES[name].cls)
    assert CHANGES[name].names in group.waiting[3]  # type: ignore[index]
    for method, arguments in (("add", ("tea", 2)), ("keep", ("tea",)), ("clear", ())):
        group.call(method, *arguments)
    group.require_equal()
    group.restart(3, Shop)
    assert not group.waiting
    group.require_equal()


@pytest.mark.parametrize("name", MIGRATIONS)
def test_the_version_is_not_raised_and_nobody_differs(name: str) -> None:
    group = busy()
    for node in (1, 2, 3):
        group.restart(node, CHANGES[name].cls)
    assert CHANGES[name].names in str(group.finalize())
    group.call("add", "tea")
    group.require_equal()
    assert not group.waiting


def test_check_names_a_command_that_gives_another_result_when_its_change_is_allowed() -> None:
    group = busy()
    group.call("add", "tea")
    verdict = judge_class(CHANGES["other behaviour"].cls, None, entries(group), SessionLimits())
    assert any("gives another result than it did" in problem for problem in verdict.problems)


def test_check_runs_the_migrations_and_says_what_stands() -> None:
    group = Group(first(), first(), first())
    group.call("name", "ann", "Ann Lee")
    verdict = judge_class(second(), None, entries(group), SessionLimits(), code_of(first()), ["buy"])
    assert verdict == Verdict(oldest=1, in_force=1, executed=1, migrated=True)


def test_check_refuses_a_migration_when_it_makes_another_state_elsewhere() -> None:
    group = Group(first(), first(), first())
    group.call("name", "ann", "Ann Lee")

    def same(before: Unmigrated) -> list[int]:
        return [migrated_digest(second(), before)]

    def other(before: Unmigrated) -> list[int]:
        return [migrated_digest(second(), before) + 1]

    verdict = judge_class(second(), None, entries(group), SessionLimits(), elsewhere=same)
    assert (verdict.problems, verdict.migrated) == ([], True)
    verdict = judge_class(second(), None, entries(group), SessionLimits(), elsewhere=other)
    assert "_split_names(): migrations make another state" in verdict.problems[0]


def test_check_says_which_migrations_nothing_needs() -> None:
    group = Group(first(), first(), first())
    group.call("name", "ann", "Ann Lee")
    for node in (1, 2, 3):
        group.restart(node, second())
    group.finalize()
    assert judged(second(), group).deletable == [], "the log begins with version 1"
    verdict = judged(second(), group, group.save(1))
    assert (verdict.oldest, verdict.deletable, verdict.problems) == (2, ["_split_names"], [])


def test_check_refuses_a_version_below_the_one_in_force() -> None:
    group = Group(second(), second(), second())
    group.call("buy", "tea")
    (problem,) = judged(first(), group).problems
    assert problem == "version 2 is in force and this class has version 1: it never goes down"
