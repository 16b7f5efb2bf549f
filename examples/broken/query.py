"""Broken: one line is wrong. Run `pytest --viewstamp query:Popularity`."""

import viewstamp


class Popularity(viewstamp.StateMachine):
    prices: dict[str, int] = {}
    asked: dict[str, int] = {}

    @viewstamp.command
    def set_price(self, item: str, price: int) -> None:
        self.prices[item] = price

    @viewstamp.query
    def price(self, item: str) -> int:
        self.asked[item] = self.asked.get(item, 0) + 1
        return self.prices.get(item, 0)
