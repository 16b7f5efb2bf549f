"""Broken: one line is wrong. Run `pytest --viewstamp threads:Background`."""

import threading

import viewstamp


class Background(viewstamp.StateMachine):
    done: list[int] = []

    @viewstamp.command
    def start(self, job: int) -> int:
        worker = threading.Thread(target=self.done.append, args=(job,))
        worker.start()
        return len(self.done)
