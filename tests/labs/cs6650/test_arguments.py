"""The command lines: what the assignment's examples mean, and one clear line for everything else."""

import pytest

from viewstamp.core.errors import ConfigurationError
from viewstamp.core.ids import NodeId
from viewstamp_labs.cs6650.arguments import (
    ClientArguments,
    ServerArguments,
    parse_audit_arguments,
    parse_client_arguments,
    parse_server_arguments,
)


def test_the_servers_of_the_assignment_find_each_other() -> None:
    words = ["12345", "0", "2", "1", "22.22.22.22", "12345", "2", "33.33.33.33", "12345"]
    peers = {1: ("22.22.22.22", 12345), 2: ("33.33.33.33", 12345)}
    assert parse_server_arguments(words) == ServerArguments(12345, 0, peers)  # type: ignore[arg-type]


def test_a_server_may_have_any_number_of_peers() -> None:
    count = 1_000
    triples = [word for peer in range(1, count + 1) for word in (str(peer), "127.0.0.1", str(7_000 + peer))]
    assert len(parse_server_arguments(["7000", "0", str(count), *triples]).peers) == count


def test_a_server_listens_for_this_machine_only_when_it_is_told_so() -> None:
    assert parse_server_arguments(["7000", "5", "0"]).host is None
    assert parse_server_arguments(["--loopback", "7000", "5", "0"]) == ServerArguments(
        7000, NodeId(5), {}, "127.0.0.1"
    )


def test_a_server_may_be_alone() -> None:
    assert parse_server_arguments(["7000", "5", "0"]).peers == {}


def test_the_client_of_the_assignment_is_understood() -> None:
    words = ["123.45.67.123", "12345", "1", "128", "3"]
    assert parse_client_arguments(words) == ClientArguments(("123.45.67.123", 12345), 1, 128, 3)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("", "too few"),
        ("7000 0", "too few"),
        ("7000 0 1", "need 3 more arguments, not 0"),
        ("7000 0 1 1 127.0.0.1", "need 3 more arguments, not 2"),
        ("7000 0 0 1 127.0.0.1 7001", "need 0 more arguments, not 3"),
        ("7000 0 1 0 127.0.0.1 7001", "two factories have the id 0"),
        ("7000 0 2 1 127.0.0.1 7001 1 127.0.0.1 7002", "two factories have the id 1"),
        ("7000 0 2 1 127.0.0.1 7001 2 127.0.0.1 7001", "two peers have the address"),
        ("70000 0 0", "PORT is 70000"),
        ("0 0 0", "PORT is 0"),
        ("port 0 0", "PORT is 'port'"),
        ("7000 -1 0", "ID is -1"),
        ("7000 0x1 0", "ID is '0x1'"),
        ("7000 9999999999 0", "ID is 9999999999"),
        ("7000 0 -1", "PEERS is -1"),
        ("7000 0 99", "99 peers need 297 more arguments"),
        ("7000 0 9999999999", "PEERS is 9999999999"),
        ("--loopback 7000 0", "2 arguments are too few"),
        ("7000 --loopback 0 0", "ID is '--loopback'"),
        ("--everywhere 7000 0 0", "PORT is '--everywhere'"),
        ("7000 0 1 1 127.0.0.1 x", "PORT is 'x'"),
        ("7000 0 --1", "PEERS is --1"),
        ("7000 0 " + "9" * 5000, "PEERS is"),
    ],
)
def test_a_server_is_refused_in_one_line_when_its_arguments_are_wrong(line: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint) as refusal:
        parse_server_arguments(line.split())
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 200


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("", "0 arguments, not 5"),
        ("127.0.0.1 7000 1 1", "4 arguments, not 5"),
        ("127.0.0.1 7000 1 1 1 1", "6 arguments, not 5"),
        ("127.0.0.1 7000 1 1 4", "TYPE is 4"),
        ("127.0.0.1 7000 1 1 0", "TYPE is 0"),
        ("127.0.0.1 7000 0 1 1", "CUSTOMERS is 0"),
        ("127.0.0.1 7000 -5 1 1", "CUSTOMERS is -5"),
        ("127.0.0.1 7000 1 -1 1", "ORDERS is -1"),
        ("127.0.0.1 7000 1 many 1", "ORDERS is 'many'"),
        ("127.0.0.1 70000 1 1 1", "PORT is 70000"),
    ],
)
def test_a_client_is_refused_in_one_line_when_its_arguments_are_wrong(line: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        parse_client_arguments(line.split())


@pytest.mark.parametrize("line", ["", "127.0.0.1", "127.0.0.1 0", "127.0.0.1 7000 1"])
def test_an_auditor_is_refused_when_its_arguments_are_wrong(line: str) -> None:
    with pytest.raises(ConfigurationError):
        parse_audit_arguments(line.split())
