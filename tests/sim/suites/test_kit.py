"""What the suites say of themselves: the lines of the course's kit."""

import re

from tests.sim.suites.conftest import passed_line
from tests.sim.suites.kv import KvTest


def test_a_test_that_passed_is_told_as_the_kit_tells_it() -> None:
    test = KvTest(5, seed=1)
    test.generic(1)
    line = passed_line([test.scenario])
    found = re.fullmatch(r"  \.\.\. Passed --  time +(\d+\.\d)s #peers 5 #RPCs +(\d+) #Ops +(\d+)", line)
    assert found, line
    seconds, calls, operations = map(float, found.groups())
    assert seconds >= 3
    assert calls > operations > 100
