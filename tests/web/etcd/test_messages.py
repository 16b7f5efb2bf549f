"""JSON as protobuf has it: both spellings, integers as texts, base64, names and numbers of enumerations."""

import pytest

from viewstamp.web.etcd.messages import (
    TARGETS,
    RangeRequest,
    TxnRequest,
    WatchRequest,
    decoded,
    member,
)
from viewstamp.web.etcd.refusals import Refusal


@pytest.mark.parametrize(
    "body",
    [
        b'{"key": "YQ==", "range_end": "Yg==", "limit": "7", "count_only": true}',
        b'{"key": "YQ==", "rangeEnd": "Yg==", "limit": 7, "countOnly": true, "revision": null}',
        b'{"key": "YQ==", "range_end": "Yg==", "limit": "7", "count_only": true, "of_a_later_version": {}}',
    ],
)
def test_a_request_may_be_spelled_in_several_ways(body: bytes) -> None:
    assert decoded(body, RangeRequest) == RangeRequest(b"a", b"b", limit=7, count_only=True)


def test_an_empty_body_is_a_request_of_zeros() -> None:
    assert decoded(b"", RangeRequest) == decoded(b" \n", RangeRequest) == RangeRequest()


def test_requests_within_requests_are_spelled_alike() -> None:
    txn = decoded(
        b'{"compare": [{"key": "YQ==", "createRevision": "0", "target": "CREATE"}],'
        b'"failure": [{"requestTxn": {"success": [{"requestRange": {"key": "YQ=="}}]}}]}',
        TxnRequest,
    )
    assert txn.compare[0].target == "CREATE"
    assert txn.failure[0].request_txn is not None
    assert txn.failure[0].request_txn.success[0].request_range == RangeRequest(b"a")
    watch = decoded(b'{"createRequest": {"key": "YQ==", "startRevision": "9"}}', WatchRequest)
    assert watch.create_request is not None
    assert watch.create_request.start_revision == 9


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"7",
        b"\xff",
        b'{"key": "not base64!"}',
        b'{"key": 5}',
        b'{"limit": "9223372036854775808"}',
        b'{"limit": "seven"}',
        b"[" * 100_000,
        b'{"success":[{"request_txn":' * 5_000,
    ],
)
def test_what_is_no_request_is_refused(body: bytes) -> None:
    with pytest.raises(Refusal, match="the body is no ") as caught:
        decoded(body, TxnRequest if b"success" in body else RangeRequest)
    assert (caught.value.code, caught.value.status, caught.value.executed) == (3, 400, False)


def test_members_of_enumerations_have_names_and_numbers() -> None:
    assert [member(each, TARGETS) for each in ("MOD", 2, "2")] == ["MOD"] * 3
    for each in ("mod", 5, -1, "5", "", "²"):
        with pytest.raises(Refusal, match="is none of VERSION, CREATE, MOD, VALUE, LEASE"):
            member(each, TARGETS)
