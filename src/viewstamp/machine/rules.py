"""The rules by number: what makes replicas of one class differ, or lose what they hold.

One table for every net: the refusal before a class serves (`soundness`), the lint (`lint`), the guard while a
command runs (`guard`), and the comparison of equal runs (`viewstamp.testing`). Each rule has its place in
docs/reference/rules.md.
"""

from typing import Final, NamedTuple

from viewstamp.core.errors import ConfigurationError

PAGE: Final = "docs/reference/rules.md"
ADDRESS: Final = f"https://github.com/viewstamp/viewstamp/blob/main/{PAGE}"
"""Where everybody can read the page."""


class Rule(NamedTuple):
    """One way to be different."""

    code: str
    name: str
    """Its name in reports: the same in every net."""
    instead: str
    """What to write instead, as an advice of one line."""

    def __str__(self) -> str:
        return f"{self.code} {self.name}"


CLOCK: Final = Rule("VS001", "clock", "use self.context.now, or pass the time as an argument")
ENTROPY: Final = Rule("VS002", "entropy", "use self.context.random, or pass the number as an argument")
SET_ORDER: Final = Rule("VS003", "set-order", "iterate over sorted(...), or keep a dict, which has an order")
IDENTITY: Final = Rule("VS004", "hash-or-identity", "use the value itself, or a checksum such as zlib.crc32")
QUERY_MUTATES: Final = Rule("VS005", "query-mutates", "make it a command, or change a copy")
HIDDEN_STATE: Final = Rule("VS006", "hidden-global", "keep it in an annotated attribute of the class")
UNDECLARED: Final = Rule("VS007", "forgotten-attribute", "annotate it in the class, such as name: int = 0")
ALIASING: Final = Rule("VS008", "aliasing", "store a copy: a snapshot makes two objects of one")
FLOAT_TEXT: Final = Rule("VS009", "float-text", "count in integers of the smallest unit, or use Decimal")
THREAD: Final = Rule("VS010", "thread", "do it in the client: a command is one synchronous step")
INPUT_OUTPUT: Final = Rule(
    "VS011", "input-output", "do it in the client, and pass what it found as an argument"
)
HOST: Final = Rule("VS012", "host", "pass it as an argument: each server has its own environment")
HALF_DONE: Final = Rule("VS013", "half-done", "check everything first, and change the state afterwards")
RECURSION: Final = Rule("VS014", "recursion", "write a loop: a command has 1,000 frames")
BATCH: Final = Rule("VS015", "batch", "use self.context.token, or a counter of your own")
SNAPSHOT_OMITS: Final = Rule(
    "VS016", "snapshot-omits", "write the attribute in snapshot, or rebuild it in restore"
)
RESTORE_DIFFERS: Final = Rule("VS017", "restore-differs", "set in restore exactly what snapshot wrote")
CONTEXT_KEPT: Final = Rule(
    "VS018", "context-kept", "copy the values that you need; the context goes on to the next command"
)
SWALLOWED: Final = Rule("VS019", "swallowed-failure", "catch the exceptions that you expect, by name")
DIFFERS: Final = Rule("VS020", "differs", "look for what is neither state, argument nor self.context")

RULES: Final[dict[str, Rule]] = {
    rule.code: rule
    for rule in (
        CLOCK, ENTROPY, SET_ORDER, IDENTITY, QUERY_MUTATES, HIDDEN_STATE, UNDECLARED, ALIASING, FLOAT_TEXT,
        THREAD, INPUT_OUTPUT, HOST, HALF_DONE, RECURSION, BATCH, SNAPSHOT_OMITS, RESTORE_DIFFERS,
        CONTEXT_KEPT, SWALLOWED, DIFFERS,
    )
}  # fmt: skip
"""By code."""


class Finding(NamedTuple):
    """One place where a class breaks a rule."""

    rule: Rule
    where: str
    """The method, as Class.method."""
    text: str
    """What it does."""
    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        at = f"{self.file}:{self.line}: " if self.line else ""
        return f"{at}{self.rule}: {self.where} {self.text}; {self.rule.instead}"


class UnsoundMachine(ConfigurationError):
    """A class that would lose or split state was refused. Nothing was started."""

    def __init__(self, rule: Rule, text: str) -> None:
        super().__init__(text)
        self.rule = rule
