import pytest

from viewstamp_labs.lab6824 import rsm_tests
from viewstamp_labs.lab6824.scenarios import COURSE, TESTS


@pytest.mark.parametrize("arguments", [["-s"], ["-s", "x"], ["-n", "-1"], ["-n", "0"], ["99"], ["x"], ["-1"]])
def test_usage_is_shown_when_the_arguments_are_wrong(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert rsm_tests.main(arguments) == 1
    assert capsys.readouterr().err.startswith("usage: rsm_tests")


def test_all_of_the_course_are_run_when_no_numbers_are_given() -> None:
    wanted = rsm_tests.parse(["-s", "5", "-n", "20"])
    assert wanted is not None
    assert (wanted.seed, wanted.rounds, wanted.keep) == (5, 20, False)
    assert wanted.numbers == list(COURSE) == list(range(17))
    assert set(COURSE) < set(TESTS)


def test_seed_is_drawn_anew_when_none_is_given() -> None:
    one, two = rsm_tests.parse(["3"]), rsm_tests.parse(["3"])
    assert one is not None
    assert two is not None
    assert one.seed != two.seed


def test_failure_is_shown_with_what_runs_it_again_when_a_test_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[tuple[int, int]] = []

    def run_test(number: int, seed: int, *, keep: bool) -> str | None:
        ran.append((number, seed))
        return "it failed" if (number, seed) == (2, 8) else None

    monkeypatch.setattr(rsm_tests, "run_test", run_test)
    assert rsm_tests.main(["-s", "7", "-n", "3", "1", "2", "3"]) == 1
    assert ran == [(1, 7), (2, 7), (3, 7), (1, 8), (2, 8)]
    assert "again with: rsm_tests -s 8 2" in capsys.readouterr().out


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize("number", [3, 12])
def test_scenario_passes_when_run_with_real_processes(number: int) -> None:
    assert rsm_tests.run_test(number, seed=number) is None
