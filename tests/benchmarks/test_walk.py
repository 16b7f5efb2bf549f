"""The walk of a request: what is counted."""

from types import CodeType

from benchmarks.walk import ROOT, Walk


def _function(file: str, name: str) -> CodeType:
    return _function.__code__.replace(co_filename=ROOT + file, co_name=name, co_qualname=name)


def test_figures_are_calls_functions_files_and_changes_of_file() -> None:
    first, second, other = _function("a.py", "f"), _function("a.py", "g"), _function("b/c.py", "f")
    walk = Walk((first, second, other, first, first))
    assert walk.files == ["a.py", "a.py", "b/c.py", "a.py", "a.py"]
    assert walk.figures() == (5, 3, 2, 2)


def test_a_walk_that_enters_nothing_has_no_figures() -> None:
    assert Walk(()).figures() == (0, 0, 0, 0)
