"""Where streams are kept, and in which form they come back."""

from pathlib import Path

import pytest

from tests.cli.conftest import Cluster, Command
from tests.cli.test_encryption import make_key
from tests.stream.streams import records, written
from viewstamp.cli.backup import _remove_old
from viewstamp.cli.stream_places import Source, header_of, keep, records_of, streams_in, within
from viewstamp.core.errors import ConfigurationError
from viewstamp.stream.records import StreamDamaged

STORE = "viewstamp.services.kv:KeyValueStore"


@pytest.fixture(params=["directory", "object store"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return a folder for streams."""
    (tmp_path / "kept").mkdir()
    return str(tmp_path / "kept") if request.param == "directory" else f"file://{tmp_path}/kept/"


def test_a_stream_is_read_as_it_was_written_from_each_place(place: str, tmp_path: Path) -> None:
    identity, recipient = make_key(tmp_path / "key.txt")
    plain, secret = within(place, "one.vss"), within(place, "two.vss.age")
    assert keep(plain, written()) == len(b"".join(written()))
    keep(secret, written(), [recipient])
    assert list(records_of(plain))[:-1] == records()
    assert list(records_of(Source(secret, identity)))[:-1] == records()
    assert header_of(Source(plain, identity)) == header_of(plain), "a key does no harm to what needs none"
    assert [name.rpartition("/")[2] for name, _ in streams_in(place)] == ["one.vss", "two.vss.age"]
    with pytest.raises(ConfigurationError, match=r"two.vss.age is encrypted: .* --identity"):
        header_of(secret)
    with pytest.raises(ConfigurationError, match="exists: a backup never overwrites anything"):
        keep(secret, written(), [recipient])


def test_an_encrypted_stream_that_is_cut_short_is_refused_by_name(tmp_path: Path) -> None:
    identity, recipient = make_key(tmp_path / "key.txt")
    keep(str(tmp_path / "one.vss.age"), written(), [recipient])
    whole = (tmp_path / "one.vss.age").read_bytes()
    (tmp_path / "cut.vss.age").write_bytes(whole[:-1])
    with pytest.raises(StreamDamaged, match=r"cut.vss.age: it cannot be decrypted .*; nothing was changed"):
        list(records_of(Source(str(tmp_path / "cut.vss.age"), identity)))


def test_backups_of_a_cluster_go_into_a_store_encrypted_and_come_back(
    command: Command, here: Cluster, tmp_path: Path, place: str
) -> None:
    with here.connect() as store:
        store.put(place, b"1", 0)
    identity, recipient = make_key(tmp_path / "key.txt")
    assert command("backup", place, "--recipient", recipient).code == 0
    ((name, _),) = streams_in(place)
    assert name.endswith(".vss.age")
    listed = command("backup", "list", place)
    assert (listed.code, "is encrypted" in listed.out) == (0, True)
    listed = command("backup", "list", place, "--json", "--identity", identity)
    assert listed.json["cluster"] == here.config.cluster_id
    for words in (
        ("backup", "verify", name, STORE),
        ("replay", name, STORE),
        ("upgrade", "check", STORE, "--backup", name),
    ):
        refused = command(*words)
        assert refused.code == 78, refused.out
        assert "is encrypted: give the file with your private key to --identity" in refused.complaint
        done = command(*words, "--identity", identity)
        assert done.code == 0, done.err
    assert command("init", "new.toml", "--cluster-id", "new").code == 0
    restored = command(
        *("restore", name, STORE, "--cluster", "new.toml", "--data", "data", "--identity", identity)
    )
    assert restored.code == 0, restored.err
    assert (tmp_path / "data").is_dir()


def test_what_grows_cannot_be_encrypted_or_stand_in_a_store(command: Command, here: Cluster) -> None:
    for words in (("s3://bucket/one.vss",), ("one.vss", "--recipient", "age1")):
        refused = command("backup", *words, "--log")
        assert refused.code == 78
        assert "--log appends to a file" in refused.complaint


def test_keep_removes_old_backups_of_this_cluster_only(place: str, tmp_path: Path) -> None:
    names = [
        "prod-20200101T000000.000Z.vss",
        "prod-20200102T000000.000Z.vss.age",
        "prod-20200103T000000.000Z.vss",
        "prod-20200101T000000.000Z.log.vss",  # one that may grow still
        "prod-20200101T000000.000Z.vss.part",
        "prod-blue-20200101T000000.000Z.vss",  # of another cluster
        "other-20200101T000000.000Z.vss",
        "mine.vss",
    ]
    for name in names:
        (tmp_path / "kept" / name).write_bytes(b"")
    _remove_old(place, "prod", 60.0)
    assert {each.name for each in (tmp_path / "kept").iterdir()} == set(names[2:]), "the newest one stays"
