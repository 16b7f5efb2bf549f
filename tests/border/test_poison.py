"""No frame of a client becomes an entry that a node cannot read, and no command ends a node."""

from collections.abc import Iterator

import pytest

from tests.border.conftest import FRAGILE, MakeVictim
from tests.border.test_depth import LOGGED, call, with_field
from viewstamp.core.errors import NotExecuted
from viewstamp.core.messages import FAILED, NO_SESSION, RESULT, QueryRequest, Results, Submit
from viewstamp.link.framing import CLIENT, encode_frame
from viewstamp.runtime.addresses import Address
from viewstamp.sim.workloads.hostile_values import nested_arrays
from viewstamp.testkit.hostile_wire import Attacker

pytestmark = pytest.mark.process

DEPTHS = (1, 33, 500, *range(955, 1_005))
PLACE = 4_711


def frames_of_every_depth() -> Iterator[bytes]:
    for kind in LOGGED:
        for depth in DEPTHS:
            yield encode_frame(CLIENT, with_field(LOGGED[kind](1), nested_arrays(depth)))


def test_an_unknown_field_of_any_depth_ends_no_node(attack: MakeVictim) -> None:
    victim = attack()
    leader = victim.leader
    for frame in frames_of_every_depth():
        with Attacker(leader) as attacker:
            attacker.send(frame)
            assert attacker.ended(), "a message that is not one of ours closes its connection"
        assert victim.dead() == {}
    victim.assert_serves()
    victim.assert_unharmed()


def test_what_a_command_raises_is_its_result(attack: MakeVictim) -> None:
    victim = attack(FRAGILE)
    leader = victim.leader
    calls: dict[str, list[int]] = {"allocate": [2**60], "interrupt": [], "exhaust": [], "leave": []}
    for method, arguments in calls.items():
        assert executed(leader, method, *arguments) == FAILED, method
        assert victim.dead() == {}, method
    assert asked(leader, "total") == RESULT
    victim.assert_unharmed()


def test_what_a_query_raises_is_its_result(attack: MakeVictim) -> None:
    victim = attack(FRAGILE)
    assert executed(victim.leader, "add", 1) == RESULT
    calls = {"ask_interrupt": [], "ask_exhaust": [], "ask_allocate": [2**60], "ask_descend": [100_000]}
    for address in victim.group.cluster.addresses.values():
        for method, arguments in calls.items():
            assert asked(address, method, *arguments) == FAILED, method
    victim.assert_unharmed()


def test_recursion_ends_alike_on_every_node(attack: MakeVictim) -> None:
    victim = attack(FRAGILE)
    leader = victim.leader
    for depth in range(800, 1_000, 2):
        executed(leader, "descend", depth)
        executed(leader, "build", depth)
    assert victim.dead() == {}
    for server in victim.group.servers.values():
        server.kill()
    victim.group.start()
    victim.assert_unharmed()


def executed(address: Address, method: str, *arguments: object) -> int:
    """Let a command run without a session; return how it ended."""
    with Attacker(address, within_s=ANSWER_WITHIN_S) as client:
        client.say(Submit(client.speak_for(PLACE), NO_SESSION, 0, [(1, call(method, *arguments))]))
        answer = client.receive(Results)
        if answer is None:
            raise NotExecuted("the node ended the connection")
        ((_, kind, _payload),) = answer.results
        return kind


def asked(address: Address, method: str, *arguments: object) -> int:
    """Ask one node, whatever it knows; return how the query ended."""
    with Attacker(address) as client:
        client.say(QueryRequest(client.speak_for(PLACE), "stale", [(1, call(method, *arguments))]))
        answer = client.receive(Results)
        if answer is None:
            raise NotExecuted("the node ended the connection")
        ((_, kind, _payload),) = answer.results
        return kind


ANSWER_WITHIN_S = 60.0
"""A bound and not a promise: a command may take seconds, and other tests run beside."""
