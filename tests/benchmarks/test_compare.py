"""The order of a comparison, its time, and what is said of a peer that is not installed."""

import argparse
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from benchmarks.loads.lines import Plan, figures
from benchmarks.peers import PEERS
from benchmarks.peers.base import PeerFailed, Running

from benchmarks import compare, connections, machine

PLANS = [Plan("writes", 1, 32, 0.0, 1.0), Plan("reads", 1, 32, 0.0, 1.0)]


class FakePeer:
    """Writes down what it is asked to do."""

    def __init__(self, name: str, *, keeps_running: bool = False, lacks: tuple[str, ...] = ()) -> None:
        self.name = name
        self.workloads: tuple[str, ...] = ("writes",)
        self.keeps_running = keeps_running
        self.connects = True
        self.diary: list[str] = []
        self.asked: list[Plan] = []
        self.likes = 16
        """The number of connections with which it is fastest."""
        self._lacks = list(lacks)

    def missing(self) -> list[str]:
        return self._lacks

    def prepare(self) -> None:
        self.diary.append("prepared")

    def version(self) -> str:
        return "1"

    def start(self, stack: ExitStack, folder: Path) -> Running:
        assert folder.is_dir()
        self.diary.append("started")
        stack.callback(self.diary.append, "ended")
        return Running([], [], self._ask)

    def _ask(self, plan: Plan) -> dict[str, Any]:
        self.diary.append(f"{plan.workload} {plan.seconds:g}")
        self.asked.append(plan)
        return figures([0.001] * (100 if plan.connections == self.likes else 10), 1.0)


WARM = f"writes {compare.OTHERS_WARM_S:g}"


def measured(folder: Path, peer: FakePeer, *, together: bool) -> list[str]:
    with ExitStack() as stack:
        comparison = compare.Comparison(folder, stack, together=together)
        for number in (1, 2):
            comparison.measure(peer, PLANS, number)
    assert [row["round"] for row in comparison.rows] == [1, 2]
    return peer.diary


def test_peer_is_started_anew_in_each_round_and_asked_only_what_it_can(tmp_path: Path) -> None:
    once = ["started", WARM, "writes 1", "ended"]
    assert measured(tmp_path, FakePeer("new"), together=False) == [*once, *once]


@pytest.mark.parametrize(("keeps_running", "together"), [(True, False), (False, True)])
def test_peer_runs_on_when_it_takes_long_to_warm_up_or_all_run_together(
    tmp_path: Path, *, keeps_running: bool, together: bool
) -> None:
    peer = FakePeer("new", keeps_running=keeps_running)
    assert measured(tmp_path, peer, together=together) == ["started", WARM, "writes 1", "writes 1", "ended"]


def test_missing_packages_are_named_and_the_others_run(monkeypatch: pytest.MonkeyPatch) -> None:
    present, absent = FakePeer("present"), FakePeer("absent", lacks=("a-server", "a-client"))
    monkeypatch.setitem(PEERS, "present", present)
    monkeypatch.setitem(PEERS, "absent", absent)
    usable, lines = compare.chosen_peers(["absent", "present"])
    assert usable == [present]
    assert lines == ["absent is left out: install a-server, a-client"]
    assert (present.diary, absent.diary) == (["prepared"], [])


def test_peer_that_cannot_be_built_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise PeerFailed("no compiler")

    peer = FakePeer("broken")
    monkeypatch.setattr(peer, "prepare", broken)
    monkeypatch.setitem(PEERS, "broken", peer)
    assert compare.chosen_peers(["broken"]) == ([], ["broken is left out: no compiler"])


def test_measurements_fit_the_minutes() -> None:
    peers = [FakePeer("one"), FakePeer("two", keeps_running=True)]
    seconds = compare.seconds_each(4.0, 3, peers, [("writes", 32), ("reads", 32)], 5)
    measuring = 2 * 3 * 5 * (seconds + compare.WARM_S + 0.1)
    starting = (3 + 1) * (compare.START_S + compare.OTHERS_WARM_S)
    assert measuring + starting == pytest.approx(240.0)
    assert compare.seconds_each(0.1, 3, peers, [("writes", 32)], 5) == compare.SHORTEST_S
    with_trials = compare.seconds_each(4.0, 3, peers, [("writes", 32), ("reads", 32)], 5, 30.0)
    assert seconds - with_trials == pytest.approx(30.0 / 30)


def given(tmp_path: Path, *more: str) -> argparse.Namespace:
    words = ["--kinds", "writes:32", "writes:1024", "--clients", "1", "64", "--rounds", "2", "--seconds", "1"]
    return compare.arguments([*words, "--directory", str(tmp_path), *more])


def test_each_peer_keeps_to_the_connections_that_serve_it_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "check_disk", lambda _: None)
    few, many, none = FakePeer("few"), FakePeer("many"), FakePeer("none")
    few.likes, many.likes, none.connects = 1, 4, False
    tried, rows = compare.compare(given(tmp_path), [few, many, none])
    assert {row["peer"] for row in tried} == {"few", "many"}
    assert len(tried) == 2 * len(connections.COUNTS) * connections.PASSES
    assert {row["round"] for row in rows} == {1, 2}
    shared = {(row["peer"], row["clients"]): row["connections"] for row in rows}
    assert (shared["few", 64], shared["many", 64], shared["none", 64]) == (1, 4, 16)
    assert {shared[peer, 1] for peer in ("few", "many", "none")} == {16}


def test_nothing_is_tried_when_the_connections_are_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "check_disk", lambda _: None)
    tried, rows = compare.compare(given(tmp_path, "--connections", "4"), [FakePeer("one")])
    assert (tried, {row["connections"] for row in rows}) == ([], {4})


def test_trials_cost_the_time_that_is_reckoned_with() -> None:
    peers = [FakePeer("one"), FakePeer("two")]
    peers[1].connects = False
    trials = connections.trials([Plan("writes", 64, 32, 0.3, 1.0), Plan("reads", 64, 32, 0.3, 1.0)])
    writes = len(connections.COUNTS) * connections.PASSES
    each = connections.TRIAL_WARM_S + connections.TRIAL_S + 0.1
    assert compare.seconds_of(trials, peers) == pytest.approx(
        compare.START_S + compare.OTHERS_WARM_S + writes * each
    )
