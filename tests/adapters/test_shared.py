"""One client for each process."""

import os

from viewstamp.adapters.shared import forget, shared


def test_a_client_is_made_once_for_each_key() -> None:
    made: list[str] = []

    def make() -> str:
        made.append("one")
        return f"client {len(made)}"

    try:
        assert shared("a test", make) == shared("a test", make) == "client 1"
        assert shared("another", make) == "client 2"
        assert forget("a test") == "client 1"
        assert forget("a test") is None
        assert shared("a test", make) == "client 3"
    finally:
        forget("a test")
        forget("another")


def test_a_forked_process_makes_its_own() -> None:
    shared("a test", os.getpid)
    try:
        child = os.fork()
        if not child:
            os._exit(0 if shared("a test", os.getpid) == os.getpid() else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert shared("a test", os.getpid) == os.getpid()
    finally:
        forget("a test")
