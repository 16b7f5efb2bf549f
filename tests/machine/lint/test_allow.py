"""What a comment allows, and that every rule has its place in the documentation."""

import random
import re
from pathlib import Path

import pytest

from viewstamp.machine.definition import MachineDefinition
from viewstamp.machine.lint.lint import lint_machine
from viewstamp.machine.lint.source import allowed
from viewstamp.machine.rules import PAGE, RULES, UnsoundMachine
from viewstamp.machine.state_machine import StateMachine, command
from viewstamp.services.kv import KeyValueStore
from viewstamp.services.locks import LockService

ROOT = Path(__file__).parents[3]


class Permitted(StateMachine):
    total: int = 0

    @command
    def add(self) -> int:
        self.total += random.randrange(1)  # viewstamp: allow VS002 it is always zero
        return self.total


class WithoutReason(StateMachine):
    total: int = 0

    @command
    def add(self) -> int:
        self.total += random.randrange(6)  # viewstamp: allow VS002
        return self.total


def test_comment_allows_when_it_gives_a_reason() -> None:
    assert lint_machine(Permitted) == []
    assert [finding.rule.code for finding in lint_machine(WithoutReason)] == ["VS002"]


def test_class_may_serve_when_its_comment_gives_a_reason() -> None:
    assert MachineDefinition.of(Permitted).methods
    with pytest.raises(UnsoundMachine, match="random") as refused:
        MachineDefinition.of(WithoutReason)
    assert refused.value.rule.code == "VS002"


def test_comment_names_several_rules_when_they_are_listed() -> None:
    assert allowed("x = 1  # viewstamp: allow VS001, VS003: measured elsewhere") == {"VS001", "VS003"}
    assert allowed("x = 1  # viewstamp: allow everything because") == set()


@pytest.mark.parametrize("machine", [KeyValueStore, LockService])
def test_nothing_is_reported_when_a_service_of_the_library_is_read(machine: type[StateMachine]) -> None:
    assert lint_machine(machine) == []


def test_every_rule_has_its_section_when_the_page_is_read() -> None:
    text = (ROOT / PAGE).read_text(encoding="utf-8")
    assert re.findall(r"^## (VS\d+ \S+)", text, re.MULTILINE) == [str(rule) for rule in RULES.values()]
