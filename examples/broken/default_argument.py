"""Broken: one line is wrong. Run `pytest --viewstamp default_argument:Basket`."""

import viewstamp


def collected(item: str, basket: list[str] = []) -> list[str]:
    basket.append(item)
    return basket


class Basket(viewstamp.StateMachine):
    items: list[str] = []

    @viewstamp.command
    def put(self, item: str) -> int:
        self.items = list(collected(item))
        return len(self.items)
