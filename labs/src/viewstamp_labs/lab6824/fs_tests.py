"""`fs_tests [-n ROUNDS] [-s SEED] DIR1 DIR2 [2-a 2-b 3-a 3-b 3-c]`: what the course's file-system tests do.

Both directories are mounts of one file system; some tests use the first only. They are made after the
description of the course's programs `test-lab-2-a.pl` to `test-lab-3-c` in docs/labs/6.824.md, without
their pauses.
"""

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Final

from viewstamp.runtime.system import fresh_number
from viewstamp_labs.lab6824.arguments import EXIT_USAGE

USAGE: Final = "usage: fs_tests [-n rounds] [-s seed] dir1 dir2 [2-a 2-b 3-a 3-b 3-c]"
PASSED: Final = "Passed all tests!"
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"


class Wrong(Exception):
    """The file system did something else than it must."""


def require(is_so: bool, what: str) -> None:  # noqa: FBT001  a condition
    """Raise `Wrong` unless it is so."""
    if not is_so:
        raise Wrong(what)


def fails(action: Callable[[], object], error: type[OSError], what: str) -> None:
    """Raise `Wrong` unless the action fails in this way."""
    try:
        action()
    except error:
        return
    raise Wrong(f"{what} did not fail")


def _listed(folder: Path, expected: set[str]) -> None:
    names = [path.name for path in folder.iterdir()]
    require(len(names) == len(set(names)), f"{folder} lists a name twice")
    require(set(names) == expected, f"{folder} lists {set(names) ^ expected} wrongly")


def _random_name(rng: Random) -> str:
    return "".join(rng.choices(_LETTERS, k=40))


def test_2_a(one: Path, two: Path, rng: Random) -> None:
    """Create and look up 200 and more empty files with long names in one directory."""
    del two
    folder = one / f"a{fresh_number()}"
    folder.mkdir()
    live = [_random_name(rng) for _ in range(200)]
    for name in live:
        (folder / name).touch()
    for _ in range(100):
        draw = rng.random()
        if draw < 0.1:
            name = rng.choice(live)
            require((folder / name).is_file(), f"{name} is not a file")
            fails((folder / name / "xx").touch, NotADirectoryError, "creating a file in a file")
        elif draw < 0.2:
            fails((folder / _random_name(rng)).open, FileNotFoundError, "opening an unused name")
        elif draw < 0.22:
            _listed(folder, set(live))
        elif draw < 0.72:
            live.append(_random_name(rng))
            (folder / live[-1]).touch()
    _listed(folder, set(live))


def test_2_b(one: Path, two: Path, rng: Random) -> None:
    """Write, overwrite, append, write into the middle and beyond the end; read it through the other mount."""
    folder = one / f"a{fresh_number()}"
    folder.mkdir()
    a, b = folder / "a", folder / "b"
    content = {a: rng.randbytes(600), b: rng.randbytes(4_111)}
    for path, data in content.items():
        path.write_bytes(data)
    content[a] = rng.randbytes(275)
    a.write_bytes(content[a])
    content[a] = rng.randbytes(8_192)
    a.write_bytes(content[a])
    tail = rng.randbytes(7_007)
    with a.open("ab") as file:
        file.write(tail)
    content[a] += tail
    for offset, data in ((190, str(rng.random()).encode()), (65_536, b"beyond the end")):
        with b.open("r+b") as file:
            file.seek(offset)
            file.write(data)
        old = content[b] + bytes(max(0, offset - len(content[b])))
        content[b] = old[:offset] + data + old[offset + len(data) :]
    fails((folder / "none").open, FileNotFoundError, "opening a missing file")
    for view in (folder, two / folder.name):
        _listed(view, {"a", "b"})
        for path, data in content.items():
            require((view / path.name).read_bytes() == data, f"{view / path.name} has another content")


def test_3_a(one: Path, two: Path, rng: Random) -> None:
    """Create and delete with random content, and see that times change."""
    del two
    folder = one / f"d{fresh_number()}"
    folder.mkdir()
    live: dict[str, str] = {}
    dead: list[str] = []
    number = 0
    for _ in range(50):
        if dead and rng.random() < 0.2:
            gone = folder / rng.choice(dead)
            fails(rng.choice((gone.open, gone.unlink)), FileNotFoundError, "using a removed file")
        if live and rng.random() < 0.2:
            name = rng.choice(sorted(live))
            require((folder / name).read_text() == live[name], f"{name} has another content")
        if rng.random() < 0.02:
            _listed(folder, set(live))
        before = folder.stat()
        if rng.random() < 0.5:
            number += 1
            live[f"x-{number}"] = f"{rng.random()}\n"
            (folder / f"x-{number}").write_text(live[f"x-{number}"])
            _changed(folder, before)
        if live and rng.random() < 0.5:
            before = folder.stat()
            name = rng.choice(sorted(live))
            (folder / name).unlink()
            del live[name]
            dead.append(name)
            _changed(folder, before)
    file = folder / "times"
    file.write_text("1")
    before = file.stat()
    file.write_text("2")
    require(file.stat().st_mtime_ns != before.st_mtime_ns, "a write did not change the time of a file")
    for name in [*live, "times"]:
        (folder / name).unlink()
    _listed(folder, set())


def _changed(folder: Path, before: os.stat_result) -> None:
    now = folder.stat()
    require(now.st_mtime_ns != before.st_mtime_ns, f"the mtime of {folder} did not change")
    require(now.st_ctime_ns != before.st_ctime_ns, f"the ctime of {folder} did not change")


def test_3_b(one: Path, two: Path, rng: Random) -> None:
    """Two mounts see each other's work at once, also when both work in one directory."""
    name = f"b{fresh_number()}"
    (one / name).mkdir()
    first, second = one / name, two / name
    (first / "f").write_text("x")
    require((second / "f").read_text() == "x", "a new file is not seen")
    (second / "f").unlink()
    _listed(first, set())
    for folder, letters in ((first, "aaa"), (second, "bbb"), (first, "ccc")):
        with (folder / "append").open("a") as file:
            file.write(letters)
    require((second / "append").read_text() == "aaabbbccc", "appends do not follow each other")
    (first / "append").unlink()
    for number in range(10):
        (first / f"n{number}").write_text(str(number))
        (second / f"m{number}").write_text(str(number))
    _listed(second, {f"{letter}{number}" for letter in "nm" for number in range(10)})
    for number in range(10):
        require((second / f"n{number}").read_text() == str(number), "another content")
    data = rng.randbytes(20_000)
    (first / "large").write_bytes(data)
    require((second / "large").read_bytes() == data, "a large file has another content")
    _concurrent_names(one, two)
    _concurrent_bytes(one, two)


def _both(first: Callable[[], None], second: Callable[[], None]) -> None:
    failures: list[BaseException] = []

    def guarded(action: Callable[[], None]) -> None:
        try:
            action()
        except BaseException as failure:  # noqa: BLE001  raised again below
            failures.append(failure)

    threads = [threading.Thread(target=guarded, args=(action,)) for action in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def _creating(folder: Path, letter: str) -> Callable[[], None]:
    def run() -> None:
        for n in range(20):
            (folder / f"{letter}{n}").write_text(f"{letter}{n}")

    return run


def _churning(folder: Path, letter: str, *, keep: int) -> Callable[[], None]:
    def run() -> None:
        for n in range(20):
            (folder / f"{letter}{n}").write_text("x")
            if n >= keep:
                (folder / f"{letter}{n}").unlink()

    return run


def _concurrent_names(one: Path, two: Path) -> None:
    name = f"c{fresh_number()}"
    (one / name).mkdir()
    first, second = one / name, two / name
    _both(_creating(first, "p"), _creating(second, "q"))
    expected = {f"{letter}{n}" for letter in "pq" for n in range(20)}
    for folder, letter in ((first, "q"), (second, "p")):
        _listed(folder, expected)
        for n in range(20):
            require((folder / f"{letter}{n}").read_text() == f"{letter}{n}", "another content")
    _both(_creating(first, "same"), _creating(second, "same"))
    expected |= {f"same{n}" for n in range(20)}
    _listed(second, expected)
    for other in (second, first):
        _both(_churning(first, "r", keep=5), _churning(other, "s", keep=3))
        kept = {f"r{n}" for n in range(5)} | {f"s{n}" for n in range(3)}
        for folder in (first, second):
            _listed(folder, expected | kept)


def _concurrent_bytes(one: Path, two: Path) -> None:
    name = f"w{fresh_number()}"
    (one / name).write_bytes(bytes(131_072))

    def write(folder: Path, offset: int, byte: bytes) -> Callable[[], None]:
        def run() -> None:
            with (folder / name).open("r+b", buffering=0) as file:
                for place in range(64):
                    file.seek(offset + place)
                    file.write(byte)
                    os.fsync(file.fileno())

        return run

    _both(write(one, 0, b"1"), write(two, 65_536, b"2"))
    expected = b"1" * 64 + bytes(65_472) + b"2" * 64 + bytes(65_472)
    for folder in (one, two):
        require((folder / name).read_bytes() == expected, f"{folder / name} lost bytes")


def test_3_c(one: Path, two: Path, rng: Random) -> None:
    """Each mount creates 100 files and removes 99 of them, in a directory of its own."""
    del rng
    folders = [(mount, mount / f"t{place}-{fresh_number()}") for place, mount in enumerate((one, two))]

    def work(folder: Path) -> Callable[[], None]:
        def run() -> None:
            folder.mkdir()
            for number in range(100):
                (folder / f"x{number}").touch()
            for number in range(99):
                (folder / f"x{number}").unlink()

        return run

    _both(*(work(folder) for _, folder in folders))
    for _, folder in folders:
        _listed(folder, {"x99"})
    print("Create/delete in separate directories: tests completed OK")


TESTS: Final = {"2-a": test_2_a, "2-b": test_2_b, "3-a": test_3_a, "3-b": test_3_b, "3-c": test_3_c}


def main(arguments: list[str]) -> int:
    """Run tests; return 0 if all passed."""
    rest = list(arguments)
    numbers = {"-n": 1, "-s": fresh_number() % (1 << 32)}
    while len(rest) > 1 and rest[0] in numbers and rest[1].isdecimal():
        numbers[rest[0]] = int(rest[1])
        del rest[:2]
    chosen = rest[2:] or list(TESTS)
    if len(rest) < 2 or not set(chosen) <= set(TESTS):
        sys.stderr.write(f"{USAGE}\n")
        return EXIT_USAGE
    one, two = Path(rest[0]), Path(rest[1])
    for turn in range(numbers["-n"]):
        seed = numbers["-s"] + turn
        for name in chosen:
            try:
                TESTS[name](one, two, Random(seed))  # noqa: S311  what is drawn can be drawn again
            except (Wrong, OSError) as failure:
                print(f"{name} failed with seed {seed}: {failure}", flush=True)
                return 1
            print(f"{name} passed (seed {seed})", flush=True)
    print(PASSED, flush=True)
    return 0
