"""What strace tells of a server: the order of its writes, syncs and answers."""

import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CALLS = "pwrite64,fdatasync,fsync,rename,renameat,renameat2,sendto,sendmsg,write,writev"
LINE = re.compile(r"(?P<pid>\d+) +(?P<text>.*)")
BEGUN = re.compile(r"(?P<call>\w+)\((?P<arguments>.*)")
RESUMED = re.compile(r"<\.\.\. (?P<call>\w+) resumed>.* = (?P<result>-?\d+)")
PATH = re.compile(r"\d+<(?P<path>/[^>]*)>")
NAMED = re.compile(r'"(?P<source>[^"]*)", (?:AT_FDCWD(?:<[^>]*>)?, )?"(?P<target>[^"]*)"')


def may_trace() -> bool:
    """Return whether strace is there and may look at a process that it did not start."""
    if shutil.which("strace") is None:
        return False
    with subprocess.Popen(["sleep", "60"]) as other:
        command = ["strace", "-p", str(other.pid)]
        with subprocess.Popen(command, stderr=subprocess.PIPE) as tracer:
            assert tracer.stderr is not None
            is_attached = b"attached" in tracer.stderr.readline()
            tracer.send_signal(signal.SIGINT)
        other.kill()
    return is_attached


@contextmanager
def traced(pid: int, file: Path) -> Iterator[None]:
    """Write the calls of a process and its threads to a file while the block lasts."""
    command = ["strace", "-f", "-yy", "-s", "0", "-o", str(file), "-e", f"trace={CALLS}", "-p", str(pid)]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as tracer:
        try:
            assert tracer.stderr is not None
            assert b"attached" in tracer.stderr.readline()
            yield
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.wait(20)


class Durability:
    """Which files and directories of a journal hold what no sync has covered yet."""

    def __init__(self, journal: Path) -> None:
        self.journal = str(journal)
        self.dirty: dict[str, int] = {}
        """For each path the number of the last call that changed it."""
        self.syncs = self.answers = self.segments = 0
        self.violations: list[str] = []

    def begin(self, number: int, call: str, arguments: str) -> None:
        """A call begins: what is sent now may speak of all that was written before."""
        if call in {"sendto", "sendmsg", "write", "writev"} and "<TCP:" in arguments:
            self.answers += 1
            unsynced = [path for path in self.dirty if path.endswith(".wal") or path == self.journal]
            self.violations += [f"call {number} sends while {path} is not synced" for path in unsynced]
        elif call == "pwrite64" and (found := PATH.search(arguments)):
            self.dirty[found["path"]] = number

    def end(self, number: int, begun: int, call: str, arguments: str) -> None:
        """A call that began as number `begun` has succeeded."""
        if call in {"fdatasync", "fsync"} and (found := PATH.search(arguments)):
            self.syncs += call == "fdatasync"
            if self.dirty.get(found["path"], begun) <= begun:
                self.dirty.pop(found["path"], None)
        elif (found := NAMED.search(arguments)) and found["target"].startswith(f"{self.journal}/"):
            self.segments += 1
            if found["source"] in self.dirty:
                self.violations.append(f"call {number} renames {found['source']}, which is not synced")
            self.dirty[self.journal] = number


def judge(trace: str, journal: Path) -> Durability:
    """Go through the lines of strace in order."""
    seen = Durability(journal)
    open_calls: dict[str, tuple[int, str, str]] = {}
    for number, line in enumerate(trace.splitlines()):
        parted = LINE.fullmatch(line)
        if parted is None:
            continue
        pid, text = parted["pid"], parted["text"]
        if (resumed := RESUMED.match(text)) and pid in open_calls:
            begun, call, arguments = open_calls.pop(pid)
            if int(resumed["result"]) >= 0:
                seen.end(number, begun, call, arguments)
        elif begun_now := BEGUN.match(text):
            call, arguments = begun_now["call"], begun_now["arguments"]
            seen.begin(number, call, arguments)
            if "<unfinished ...>" in text:
                open_calls[pid] = number, call, arguments
            elif not re.search(r" = -\d", text):
                seen.end(number, number, call, arguments)
    return seen
