"""Groups of server processes that end with the test."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.process.system_calls import may_trace
from viewstamp.testkit.lossy_network import LossyNetwork, NoNamespaces
from viewstamp.testkit.processes import ServerGroup

try:
    with LossyNetwork(1, loss=0.0, seed=1):
        collect_ignore: list[str] = []
except NoNamespaces:  # they need the rights of root, and the device /dev/net/tun
    collect_ignore = ["test_lossy_network.py"]
if not may_trace():
    collect_ignore.append("test_syncs.py")

MakeGroup = Callable[..., ServerGroup]


@pytest.fixture
def make_group(tmp_path: Path) -> Iterator[MakeGroup]:
    """Make and start a group of servers; its processes end with the test."""
    with ExitStack() as stack:

        def make(size: int = 3, *, name: str = "group", start: bool = True, **options: object) -> ServerGroup:
            folder = tmp_path / name
            folder.mkdir()
            group = stack.enter_context(ServerGroup(folder, size, **options))  # type: ignore[arg-type]
            if start:
                group.start()
            return group

        yield make
