"""What a node takes of its process (`runtime.process`)."""

import threading

from viewstamp.runtime.process import OwnProcess


def test_a_sampler_is_called_until_it_is_told_to_end() -> None:
    came, threads = threading.Event(), set[threading.Thread]()
    told: list[float] = []

    def look(passed_s: float) -> None:
        threads.add(threading.current_thread())
        told.append(passed_s)
        came.set()

    stop = OwnProcess().sample("viewstamp-test", 0.01, look)
    assert came.wait(10)
    stop()
    (thread,) = threads
    thread.join(10)
    assert not thread.is_alive()
    assert max(told) <= 0.02, "time in which the process stood still does not count"


def test_what_is_given_to_an_executor_happens_in_order() -> None:
    executor = OwnProcess().executor("viewstamp-test")
    order: list[int] = []
    for number in range(20):
        executor.submit(order.append, number)
    executor.shutdown()
    assert order == list(range(20))
