"""What the judge sees of a server of the course's form."""

import pytest

from tests.protocols.primary_backup.course_world import CourseWorld
from viewstamp.core.ids import NodeId
from viewstamp.core.judge import InvariantViolated
from viewstamp.protocols.primary_backup import COURSE
from viewstamp.protocols.primary_backup.course.messages import Replicated


def test_course_promise_is_seen_as_broken_when_the_disk_does_not_hold_it() -> None:
    oracle = COURSE.make_oracle((NodeId(0), NodeId(1)))
    assert oracle.broken_promise(NodeId(1), Replicated(2, 1), oracle.make_image()) is not None


def test_positions_that_went_back_are_found_when_a_server_of_the_course_is_judged() -> None:
    world = CourseWorld(2)
    world.write(0, b"a", b"b")
    core = world.core(1)
    core.committed_index = 0
    with pytest.raises(InvariantViolated, match="I9"):
        world.oracle.check_node(core)
    with pytest.raises(InvariantViolated, match="I8"):
        world.oracle.check_step(NodeId(1), core)
