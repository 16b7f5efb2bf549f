from pathlib import Path

import pytest

from viewstamp.core.errors import ConfigurationError, JournalCorrupt
from viewstamp_labs.lab6824.arguments import parse_port, parse_server
from viewstamp_labs.lab6824.lock_server import prepare_files


def test_operation_log_is_put_aside_when_the_log_of_paxos_was_taken_away(tmp_path: Path) -> None:
    log, folder = tmp_path / "paxos-1.log", tmp_path / "paxos-1.d"
    for content in ("older", "newer"):
        folder.mkdir()
        (folder / "content").write_text(content)
        prepare_files(log, folder)
        assert not folder.exists()
    assert (tmp_path / "paxos-1.d.old" / "content").read_text() == "newer"


@pytest.mark.parametrize("text", ["", "done 1 10\n"])
def test_operation_log_stays_when_the_log_of_paxos_is_there(tmp_path: Path, text: str) -> None:
    log, folder = tmp_path / "paxos-1.log", tmp_path / "paxos-1.d"
    folder.mkdir()
    log.write_text(text)
    prepare_files(log, folder)
    assert folder.exists()


def test_node_is_refused_when_it_knows_views_and_its_operation_log_is_gone(tmp_path: Path) -> None:
    log, folder = tmp_path / "paxos-1.log", tmp_path / "paxos-1.d"
    log.write_text("done 1 10\n")
    with pytest.raises(JournalCorrupt, match=r"is missing: restore it, or take .* away"):
        prepare_files(log, folder)
    log.write_text("")
    prepare_files(log, folder)


@pytest.mark.parametrize("text", ["", "0", "-1", "65535", "70000", "1.5", "x", "\xb2", "1 "])
def test_port_is_refused_when_it_or_its_test_port_cannot_be_one(text: str) -> None:
    with pytest.raises(ConfigurationError, match="port"):
        parse_port(text)


def test_server_is_on_this_machine_when_only_its_port_is_given() -> None:
    assert parse_server("7000") == ("127.0.0.1", 7000)
    assert parse_server("elsewhere:7000") == ("elsewhere", 7000)
    with pytest.raises(ConfigurationError):
        parse_server("x")
