import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from viewstamp.core.errors import ConfigurationError
from viewstamp.core.ids import Incarnation, NodeId
from viewstamp.protocols.registry import PROTOCOL_NAMES
from viewstamp.replica.authorization import Grant, policy_digest
from viewstamp.runtime.config import CLUSTER_ID_LENGTH_MAX, MEMBERS_MAX, ClusterConfig, Member, NodeConfig
from viewstamp.storage.identity import make_identity

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "configuration.md"


def cluster(*addresses: tuple[int, str, int], **fields: Any) -> ClusterConfig:
    members = tuple(Member(*address) for address in addresses or ((1, "a", 1), (2, "b", 1), (3, "c", 1)))
    return ClusterConfig(**{"cluster_id": "test", "members": members, **fields})


def refused(*addresses: tuple[int, str, int], **fields: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        cluster(*addresses, **fields).check()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_ids_are_refused_when_two_are_equal() -> None:
    assert "two members have the id 1" in refused((1, "a", 1), (1, "b", 1))


@pytest.mark.parametrize(
    "hosts", [("a", "a"), ("a", "A"), ("::1", "0:0:0:0:0:0:0:1"), ("127.0.0.1", "127.0.0.1")]
)
def test_addresses_are_refused_when_two_are_equal(hosts: tuple[str, str]) -> None:
    assert "two members have the address" in refused((1, hosts[0], 1), (2, hosts[1], 1))


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_port_is_refused_when_it_is_out_of_range(port: int) -> None:
    assert f"port {port}" in refused((1, "a", port))


def test_host_may_be_ipv6_when_it_has_no_brackets() -> None:
    assert cluster((1, "::1", 80)).addresses == {NodeId(1): ("::1", 80)}
    assert "without brackets" in refused((1, "[::1]", 80))


def test_member_id_is_refused_when_it_is_negative() -> None:
    assert "member id -1" in refused((-1, "a", 1))


def test_protocol_is_refused_when_it_is_unknown() -> None:
    assert "no protocol is called 'paxos'" in refused(protocol="paxos")


@pytest.mark.parametrize("count", [0, MEMBERS_MAX + 1])
def test_members_are_refused_when_their_number_is_out_of_range(count: int) -> None:
    members = tuple(Member(number, "a", number + 1) for number in range(count))
    with pytest.raises(ConfigurationError, match="1 to 31 members"):
        ClusterConfig(cluster_id="test", members=members)


@pytest.mark.parametrize("name", ["", "x" * 64, "a b", "ä", "a\nb", "../x"])
def test_cluster_id_is_refused_when_it_has_other_characters(name: str) -> None:
    assert "cluster_id" in refused(cluster_id=name)


def test_longest_cluster_id_fits_into_a_data_directory() -> None:
    longest = ClusterConfig(cluster_id="x" * CLUSTER_ID_LENGTH_MAX, members=(Member(1, "a", 1),))
    assert make_identity(longest.cluster_id, NodeId(1), Incarnation(1)).cluster_id == longest.cluster_id


@pytest.mark.parametrize("table", ["options", "replica"])
def test_option_is_refused_when_there_is_none_of_this_name(table: str) -> None:
    assert f"{table} has no 'typo'" in refused(**{table: {"typo": 1}})


@pytest.mark.parametrize("values", [{"batch_bytes_max": 0}, {"batch_bytes_max": "many"}])
def test_option_is_refused_when_its_value_does_not_fit(values: dict[str, Any]) -> None:
    assert "replica: " in refused(replica=values)


def test_cluster_file_is_read_back_when_it_was_saved(tmp_path: Path) -> None:
    path = tmp_path / "cluster.toml"
    saved = cluster(replica={"batch_bytes_max": 1000, "sessions": {"time_to_live_ms": 5000}})
    saved.save(path)
    loaded = ClusterConfig.load(path)
    assert loaded == saved
    assert loaded.replica_options.sessions.time_to_live_ms == 5000


def test_grants_are_read_back_when_they_were_saved(tmp_path: Path) -> None:
    grants = (
        Grant(principal="client/shop", methods=("get", "locks.*"), prefixes=('shop/"',)),
        Grant(principal="operator/*", methods=("*",)),
    )
    config = ClusterConfig(cluster_id="c", members=(Member(1, "localhost", 7000),), grants=grants)
    config.save(tmp_path / "cluster.toml")
    read = ClusterConfig.load(tmp_path / "cluster.toml")
    assert read.grants == grants
    assert read.identity(NodeId(1), "leader").grants == policy_digest(grants) != 0


@pytest.mark.parametrize(
    ("table", "why"),
    [
        ('principal = "client/a"', "methods"),
        ('principal = "client/a"\nmethods = []', "names no method"),
        ('principal = "client/a"\nmethods = ["*"]\nprefix = "a"', "prefix"),
        ('principal = ""\nmethods = ["*"]', "names a principal"),
    ],
)
def test_a_grant_is_refused_in_one_line_when_it_is_wrong(table: str, why: str) -> None:
    text = f'cluster_id = "c"\n[[members]]\nid = 1\nhost = "h"\nport = 1\n[[grants]]\n{table}\n'
    with pytest.raises(ConfigurationError, match=why):
        ClusterConfig.from_toml(text.encode())


def test_cluster_file_is_not_replaced_when_it_exists(tmp_path: Path) -> None:
    path = tmp_path / "cluster.toml"
    path.write_text("precious")
    with pytest.raises(ConfigurationError, match="cannot write"):
        cluster().save(path)
    assert path.read_text() == "precious"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('cluster_id = "x"', "missing required field `members`"),
        ('cluster_id = "x"\nmembers = []\ntypo = 1', "unknown field `typo`"),
        ('cluster_id = "x"\n[[members]]\nid = 1\nhost = "a"\nport = "x"', "Expected `int`"),
        ('cluster_id = "x"\n[[members]]\nid = 1\nhost = "a"\nport = 0', "port 0"),
        ("cluster_id", "Expected '='"),
        ("x = " + "[" * 100_000, "recursion"),
        ("x = " + "9" * 5_000, "4300 digits"),
        ('cluster_id = "x"\ncluster_id = "y"\nmembers = []', "Cannot overwrite a value"),
        ('cluster_id = "\\ud800"\nmembers = []', "not a Unicode scalar value"),
        ('cluster_id = "x"\n[[members]]\nid = true\nhost = "a"\nport = 1', "Expected `int`, got `bool`"),
        ('cluster_id = "x"\n[[members]]\nid = nan\nhost = "a"\nport = 1', "Expected `int`, got `float`"),
        (f'cluster_id = "x"\n[[members]]\nid = {2**63}\nhost = "a"\nport = 1', f"member id {2**63}"),
        ('cluster_id = "x"\n[[members]]\nid = 1\nhost = "a\\u0000"\nport = 1', "cannot be a host"),
        ('cluster_id = "x"\n[[members]]\nid = 1\nhost = "e\\u0301"\nport = 1', "cannot be a host"),
        ("#" + "x" * (1 << 20), "it is too long, more than 1048576 bytes"),
        ("\xff", "decode"),
    ],
)
def test_cluster_file_is_refused_in_one_line_when_it_is_wrong(
    tmp_path: Path, text: str, complaint: str
) -> None:
    path = tmp_path / "cluster.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigurationError) as caught:
        ClusterConfig.load(path)
    assert complaint in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_cluster_file_is_refused_when_it_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot read"):
        ClusterConfig.load(tmp_path / "none.toml")


def test_digests_are_equal_when_only_the_order_or_a_default_differs() -> None:
    plain = cluster((1, "a", 1), (2, "b", 1))
    turned = cluster((2, "B", 1), (1, "a", 1), replica={"batch_bytes_max": 1 << 20})
    assert plain.digest == turned.digest
    assert plain.options_digest == turned.options_digest


def test_digest_is_equal_when_addresses_or_options_differ() -> None:
    moved = cluster((1, "a", 7), (2, "b", 1), replica={"batch_bytes_max": 5})
    assert moved.digest == cluster((1, "a", 1), (2, "b", 1)).digest
    assert moved.options_digest != cluster().options_digest


@pytest.mark.parametrize("other", [{"cluster_id": "else"}, {"protocol": "viewstamped"}])
def test_digest_differs_when_the_cluster_or_the_protocol_does(other: dict[str, Any]) -> None:
    assert cluster().digest != cluster(**other).digest


def test_limits_of_sessions_must_agree_when_members_meet() -> None:
    assert cluster().must_agree["replica.sessions.sessions_max"] == 100_000
    fewer = cluster(replica={"sessions": {"sessions_max": 5}})
    assert fewer.must_agree["replica.sessions.sessions_max"] == 5


def test_advertised_address_is_refused_when_it_is_not_one() -> None:
    with pytest.raises(ConfigurationError, match="HOST:PORT"):
        NodeConfig(advertise="nowhere")


def test_node_limit_is_refused_when_it_is_zero() -> None:
    with pytest.raises(ConfigurationError, match="clients_max is 0"):
        NodeConfig(clients_max=0)


def test_backoff_is_refused_when_its_ends_are_crossed() -> None:
    with pytest.raises(ConfigurationError, match="dial_backoff_min_ms"):
        NodeConfig(dial_backoff_min_ms=10, dial_backoff_max_ms=5)


def documented(heading: str) -> dict[str, str]:
    """Return the defaults in the table under a heading of the reference page, by name."""
    section = REFERENCE.read_text().split(f"{heading}\n")[1].split("\n#")[0]
    return dict(re.findall(r"^\| `([a-z_.]+)` \| ([^|]+) \|", section, re.MULTILINE))


def test_reference_lists_every_field_of_a_node_with_its_default() -> None:
    table = documented("## The node")
    fields = {field.name: field.default for field in msgspec.structs.fields(NodeConfig)}
    assert set(table) == set(fields)
    wrong = {name for name, default in fields.items() if default is not None and table[name] != str(default)}
    assert wrong == set()


@pytest.mark.parametrize("protocol", PROTOCOL_NAMES)
def test_reference_lists_every_option_of_a_protocol_with_its_default(protocol: str) -> None:
    values = msgspec.structs.asdict(cluster(protocol=protocol).protocol_options)
    table = documented(f"### Options of {protocol}")
    assert table == {name: str(value) for name, value in values.items()}


def test_reference_lists_every_option_of_the_replica_with_its_default() -> None:
    values = dict(msgspec.structs.asdict(cluster().replica_options))
    sessions = values.pop("sessions", None)
    if sessions is not None:
        values |= {f"sessions.{name}": value for name, value in msgspec.structs.asdict(sessions).items()}
    assert documented("### Options of the replica") == {name: str(value) for name, value in values.items()}


def test_example_of_the_reference_is_a_cluster_file() -> None:
    example = REFERENCE.read_text().split("```toml\n")[1].split("```")[0]
    loaded = ClusterConfig.from_toml(example.encode())
    loaded.check()
    assert loaded.node_ids == (1, 2, 3)
