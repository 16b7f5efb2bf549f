"""Endless commands, queries that change the state, replicas that differ: named, and stopped."""

import asyncio
import subprocess
import sys
import threading
from time import monotonic

import pytest

from tests.border.conftest import FRAGILE, MakeVictim, Victim
from tests.border.test_depth import call
from tests.border.test_poison import asked, executed
from viewstamp.core.errors import NotExecuted
from viewstamp.core.ids import NodeId
from viewstamp.core.messages import FAILED, NO_SESSION, RESULT, Submit
from viewstamp.machine.state_machine import StateMachine, command, query
from viewstamp.runtime.watchdog import SLOW_S
from viewstamp.testkit.hostile_wire import Attacker
from viewstamp.testkit.load import TooLate, accounts, wait_for_level, wait_until

pytestmark = pytest.mark.process

WITHIN_S = 20.0
ODD = "VIEWSTAMP_TEST_ODD"
"""Set to a node's environment: that node's class behaves in another way."""


class Odd(StateMachine):
    """Differs where its environment says so, as a node with another version of the code does."""

    total: int = 0

    @command
    def add(self, amount: int) -> int:
        self.total += amount + _oddness()
        return self.total

    @command
    def slip(self, amount: int) -> None:
        """Changes the state and says nothing: the results of all replicas are equal."""
        self.total += amount + _oddness()

    @query
    def read(self) -> int:
        return self.total


def _oddness() -> int:
    import os

    return int(os.environ.get(ODD, "0"))


def text_of(victim: Victim, node: NodeId) -> str:
    return victim.group.servers[node].log.read_text(errors="replace")


def test_an_endless_command_is_named_and_ends_its_node(attack: MakeVictim) -> None:
    victim = attack(FRAGILE, settings="segment_bytes = 4194304\ncommand_limit_ms = 2000\n")
    leading = victim.leading.node
    with Attacker(victim.leader) as client:
        client.say(Submit(client.speak_for(5), NO_SESSION, 0, [(1, call("spin", -1))]))
        server = victim.group.servers[leading]
        asyncio.run(wait_until(lambda: not server.running, WITHIN_S, "the node to end"))
    line = server.last_line()
    assert "spin" in line, line
    assert "viewstamp" in text_of(victim, leading)


TURNS = """
from time import process_time

def spin(turns):
    count = 0
    while count != turns:
        count += 1

turns, begun = 0, process_time()
while process_time() - begun < 0.2:
    spin(100_000)
    turns += 100_000
print(turns)
"""


def turns_in(seconds: float) -> int:
    """Return how often a loop like that of `spin` turns in so much processor time on this machine.

    Measured in a process of its own: nothing traces it, as nothing traces the servers.
    """
    counted = subprocess.run([sys.executable, "-c", TURNS], capture_output=True, text=True, check=True)
    return int(int(counted.stdout) * seconds / 0.2)


def test_a_slow_command_is_named_and_nothing_else_happens(attack: MakeVictim) -> None:
    victim = attack(FRAGILE)
    assert executed(victim.leader, "spin", turns_in(1.8 * SLOW_S)) == RESULT
    victim.assert_unharmed()
    asyncio.run(
        wait_until(
            lambda: all("spin" in text_of(victim, n) for n in victim.group.servers), WITHIN_S, "a line"
        )
    )


@pytest.mark.parametrize(("leads", "method"), [(True, "slip"), (True, "add"), (False, "add")])
def test_the_odd_one_out_stops_and_no_other(attack: MakeVictim, leads: bool, method: str) -> None:
    """Judged by the majority: also where the odd one leads, and where only the state differs."""
    victim = attack("tests.border.test_control:Odd", replica={"state_check_every": 8})
    node = victim.leading.node
    odd = node if leads else next(other for other in victim.group.servers if other != node)
    restart_as_odd(victim, odd)
    while victim.leading.node != odd and leads:
        transfer(victim, odd)
    for amount in range(1, 65):
        if not victim.dead():
            execute_at_last(victim, method, amount)
    asyncio.run(wait_until(lambda: bool(victim.dead()), WITHIN_S, "the odd one to stop"))
    assert set(victim.dead()) == {odd}
    assert method in victim.dead()[odd], victim.dead()
    execute_at_last(victim, "add", 1)
    assert set(victim.dead()) == {odd}


def execute_at_last(victim: Victim, method: str, amount: int) -> None:
    """Execute a command once a node that leads answers: one that stops may be the one that is asked."""
    deadline = monotonic() + WITHIN_S
    while monotonic() < deadline:
        try:
            if executed(victim.leader, method, amount) == RESULT:
                return
        except (OSError, NotExecuted):
            continue
    raise TooLate(f"{method} was not executed within {WITHIN_S:g} s")


def restart_as_odd(victim: Victim, node: NodeId) -> None:
    server = victim.group.servers[node]
    server.kill()
    server.start({ODD: "1"})
    server.wait_ready()
    asyncio.run(wait_for_level(victim.group))


def transfer(victim: Victim, node: NodeId) -> None:
    from viewstamp.core.events import TransferLeadership
    from viewstamp.runtime.operator import direct

    direct(victim.group.cluster, victim.leading.node, TransferLeadership(node))


def test_a_query_that_changes_the_state_is_found(attack: MakeVictim) -> None:
    """It is refused, or the one node that answered it is found to differ: no other node stops."""
    victim = attack(FRAGILE, replica={"state_check_every": 8})
    follower = next(node for node in victim.group.servers if node != victim.leading.node)
    if asked(victim.group.cluster.addresses[follower], "ask_change") == FAILED:
        victim.assert_unharmed()
        return
    for _ in range(32):
        executed(victim.leader, "add", 1)
    asyncio.run(wait_until(lambda: bool(victim.dead()), WITHIN_S, "the odd one to stop"))
    assert set(victim.dead()) == {follower}
    execute_at_last(victim, "add", 1)


def test_a_slow_query_holds_up_its_node_no_longer_than_it_is_told(attack: MakeVictim) -> None:
    victim = attack(FRAGILE, settings="segment_bytes = 4194304\ncommand_limit_ms = 2000\n")
    leader, node = victim.leader, victim.leading.node
    thread = threading.Thread(target=lambda: _ask_forever(leader))
    thread.start()
    server = victim.group.servers[node]
    asyncio.run(wait_until(lambda: not server.running, WITHIN_S, "the node to end"))
    thread.join()
    assert "ask_spin" in server.last_line()
    assert len(asyncio.run(accounts(victim.group))) == 3


def _ask_forever(leader: tuple[str, int]) -> None:
    from viewstamp.core.messages import QueryRequest

    with Attacker(leader, within_s=WITHIN_S) as client:
        client.say(QueryRequest(client.speak_for(5), "stale", [(1, call("ask_spin", -1))]))
        try:
            client.receive_frame()
        except TimeoutError:
            return
