"""A gateway for tests of its handlers."""

from collections.abc import AsyncIterator

import pytest

from tests.web.etcd.door import Door, open_door


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    async with open_door() as opened:
        yield opened
