from pathlib import Path

import pytest

from viewstamp.core.errors import Diverged, NodeRemoved
from viewstamp.runtime.removal import MARK, refuse_removed, remember_removal


def test_directory_when_its_node_was_removed_is_refused_with_the_reason(tmp_path: Path) -> None:
    refuse_removed(str(tmp_path))
    remember_removal(str(tmp_path), NodeRemoved("node 4 was removed at 1.7"))
    with pytest.raises(NodeRemoved, match=r"node 4 was removed at 1\.7"):
        refuse_removed(str(tmp_path))


def test_directory_when_the_node_stopped_for_another_reason_is_not_marked(tmp_path: Path) -> None:
    remember_removal(str(tmp_path), Diverged("it differs"))
    assert not (tmp_path / MARK).exists()
    remember_removal(None, NodeRemoved("a node in memory"))
    refuse_removed(None)
