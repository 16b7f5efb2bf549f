"""Broken: one line is wrong. Run `pytest --viewstamp environment:Region`."""

import os

import viewstamp


class Region(viewstamp.StateMachine):
    orders: dict[str, int] = {}

    @viewstamp.command
    def order(self, count: int) -> str:
        region = os.environ.get("REGION", "nowhere")
        self.orders[region] = self.orders.get(region, 0) + count
        return region
