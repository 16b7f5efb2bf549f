"""`viewstamp audit` on what a cluster left, and on a stream."""

import io
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Cluster, Command
from tests.cli.test_backup import captured
from tests.replica.fakes import call, submit
from viewstamp.cli import failures
from viewstamp.cli import log as log_command
from viewstamp.cli.audit import column
from viewstamp.core.ids import NodeId, Seqno, View, Viewstamp
from viewstamp.core.messages import encode_message
from viewstamp.replica.batches import encode_batch
from viewstamp.runtime.config import NodeConfig
from viewstamp.runtime.local import local_cluster
from viewstamp.services.kv import KeyValueStore
from viewstamp.services.stock import StockService
from viewstamp.stream.encoder import StreamEncoder
from viewstamp.stream.records import LogEntry, log_header

KV = "viewstamp.services.kv:KeyValueStore"
CONFIG = NodeConfig(snapshot_placement="inline", segment_bytes=1 << 20)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audited")
    with (
        local_cluster(KeyValueStore, replicas=1, directory=folder, node_config=CONFIG) as cluster,
        cluster.connect() as store,
    ):
        store.set("shop/a", b"hidden")
        store.delete("shop/b")
        store.set("other", b"last")
    (found,) = folder.glob("node-*")
    return found


def stream(*, end: bool = True, digests: tuple[int, ...] = (5, 6), seqnos: tuple[int, ...] = (1, 2)) -> bytes:
    encoder = StreamEncoder()
    header = log_header(
        "c",
        "raft",
        Viewstamp(View(1), Seqno(0)),
        digest=0,
        wall_time_ms=0,
        members=(NodeId(1),),
        limits={},
        machine=StockService.__name__,
    )
    parts = [encoder.begin(header)]
    for seqno, digest in zip(seqnos, digests, strict=True):
        message = encode_message(submit(0, (seqno, call("set", f"key-{seqno}", b"hidden"))))
        data = encode_batch(7, (seqno - 1, 0 if seqno == 1 else 5), [message], principals=("client/shop",))
        parts.append(encoder.record(LogEntry(View(1), Seqno(seqno), digest, data)))
    return b"".join([*parts, encoder.end()] if end else parts)


def test_a_directory_is_audited_without_a_change(command: Command, directory: Path) -> None:
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    ran = command("audit", directory, "--app", KV)
    assert ran.code == failures.DONE
    assert "set  shop/a  <str 6> <bytes 6>" in ran.out
    assert "delete  shop/b" in ran.out
    assert "(close session)" not in ran.out, "the last entry: nothing says that it is committed"
    assert "are not shown: nothing here says that they are committed" in ran.err
    assert "hidden" not in ran.out
    assert {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()} == before


def test_calls_are_chosen_and_values_shown_when_that_is_asked_for(command: Command, directory: Path) -> None:
    ran = command("audit", directory, "--method", "delete")
    assert [line.split("  ")[2] for line in ran.out.splitlines()] == ["delete"]
    assert "hidden" in command("audit", directory, "--values").out
    assert command("audit", directory, "--principal", "nobody").out == ""
    lines = command("audit", directory, "--json", "--method", "set").out.splitlines()
    assert lines
    assert all('"method":"set"' in line for line in lines)


def test_it_says_so_when_the_log_is_damaged(command: Command, directory: Path) -> None:
    segment = max(directory.glob("journal/*"), key=lambda path: path.stat().st_size)
    whole = segment.read_bytes()
    place = whole.index(b"shop/a")
    segment.write_bytes(whole[:place] + b"X" + whole[place + 1 :])
    try:
        ran = command("audit", directory)
    finally:
        segment.write_bytes(whole)
    assert ran.code != failures.DONE
    assert "damaged" in ran.err


def test_a_stream_is_audited_from_a_file_and_from_standard_input(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "log").write_bytes(stream())
    ran = command("audit", tmp_path / "log", "--principal", "client/*")
    assert (ran.code, ran.err) == (failures.DONE, "")
    assert ran.out.splitlines() == [
        "1.1/0  client/shop  set  key-1  <str 5> <bytes 6>",
        "1.2/0  client/shop  set  key-2  <str 5> <bytes 6>",
    ]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stream())))
    again = command("audit", "-", "--since", "1.2")
    assert (again.err, again.out.splitlines()) == ("", ran.out.splitlines()[1:])


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (stream(end=False), "without its end record"),
        (stream(digests=(4, 6)), "was left out or changed"),
        (stream()[:-60] + b"?" + stream()[-59:], "damaged"),
    ],
)
def test_a_stream_that_is_not_whole_is_audited_as_far_as_it_goes(
    command: Command, tmp_path: Path, data: bytes, why: str
) -> None:
    (tmp_path / "log").write_bytes(data)
    ran = command("audit", tmp_path / "log")
    assert ran.code == failures.REFUSED
    assert why in ran.err
    assert ran.out.startswith("1.1/0  client/shop  set  key-1")


def test_what_cannot_be_read_is_refused_in_one_line(command: Command, tmp_path: Path) -> None:
    assert command("audit", tmp_path / "nothing").code == failures.CONFIGURATION
    assert command("audit", tmp_path).complaint.endswith("it has no identity file")
    (tmp_path / "log").write_bytes(b"nonsense")
    assert "not a stream" in command("audit", tmp_path / "log").complaint


def test_a_running_cluster_is_audited_through_the_stream_of_its_log(
    command: Command, here: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with here.connect() as store:
        store.set("shop/now", b"hidden")
    with monkeypatch.context() as patch, captured(patch) as out:
        assert log_command.export() == failures.DONE
        (tmp_path / "log").write_bytes(out.getvalue())
    ran = command("audit", tmp_path / "log", "--method", "set", "--app", KV)
    assert (ran.code, ran.err) == (failures.DONE, "")
    assert "set  shop/now  <str 8> <bytes 6>" in ran.out.splitlines()[-1]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("shop/a", "shop/a"),
        ("a  client/root  set", '"a  client/root  set"'),
        ("", '""'),
        ("<str 5>", '"<str 5>"'),
        ("(set)", '"(set)"'),
        ('say "so"', '"say \\"so\\""'),
        ("a\nb c", '"a\\nb c"'),
        ("a\u00a0b", "a\\xa0b"),
    ],
)
def test_no_key_can_imitate_another_column(text: str, told: str) -> None:
    assert column(text) == told
