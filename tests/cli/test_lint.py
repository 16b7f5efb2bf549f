from pathlib import Path

from tests.cli.conftest import Command

SHOP = """
import time
import viewstamp

class Shop(viewstamp.StateMachine):
    sold: float = 0.0

    @viewstamp.command
    def sell(self) -> float:
        self.sold = time.time()
        return self.sold

class Right(viewstamp.StateMachine):
    sold: int = 0

    @viewstamp.command
    def sell(self) -> int:
        self.sold = self.context.now
        return self.sold
"""


def test_line_and_rule_are_named_when_a_class_reads_a_clock(command: Command, tmp_path: Path) -> None:
    (tmp_path / "clockshop.py").write_text(SHOP)
    ran = command("lint", "clockshop:Shop")
    assert ran.code == 1
    assert ran.out.startswith("clockshop.py:10: VS001 clock: Shop.sell uses time.time")
    assert ran.out.endswith("use self.context.now, or pass the time as an argument\n")
    assert command("lint", "clockshop:Right").code == 0


def test_findings_are_data_when_json_is_asked_for(command: Command, tmp_path: Path) -> None:
    (tmp_path / "jsonshop.py").write_text(SHOP)
    ran = command("lint", "jsonshop:Right", "jsonshop:Shop", "--json")
    assert [(one["rule"], one["line"], one["file"]) for one in ran.json] == [("VS001", 10, "jsonshop.py")]


def test_one_line_says_why_when_there_is_no_such_class(command: Command) -> None:
    assert "cannot import" in command("lint", "nosuchmodule:Shop").complaint
