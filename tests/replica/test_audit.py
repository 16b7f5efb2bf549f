"""The audit trail: what entries of the log say, and what shows that some are missing."""

from typing import Any

import msgspec
import pytest

from tests.replica.fakes import CLIENT, call, submit
from viewstamp.core.ids import LEVEL, Seqno, View, Viewstamp
from viewstamp.core.messages import CloseSession, KeepAlive, OpenSession, encode_message
from viewstamp.core.principals import ANONYMOUS
from viewstamp.machine.definition import MachineDefinition
from viewstamp.replica.audit import (
    BY_OPERATOR,
    CLOSE_SESSION,
    FINALIZED,
    FINDINGS_MAX,
    LIMIT_SET,
    OPEN_SESSION,
    SKIPPED,
    UNREADABLE_CALL,
    AuditedCall,
    Auditor,
    Filter,
    redacted,
)
from viewstamp.replica.batches import encode_batch
from viewstamp.replica.skip_mark import make_skip_mark
from viewstamp.replica.versions import Declaration
from viewstamp.services.stock import StockService

STOCK = MachineDefinition.of(StockService)


def at(seqno: int, view: int = 3) -> Viewstamp:
    return Viewstamp(View(view), Seqno(seqno))


def entry(
    *messages: Any,
    principals: tuple[str, ...] = (),
    check: tuple[int, int] = (0, 0),
    declares: Declaration | None = None,
) -> bytes:
    encoded = [encode_message(message) for message in messages]
    return encode_batch(77, check, encoded, principals=principals, level=LEVEL, declares=declares)


SET = submit(9, (1, call("set", "shop/a", b"secret")), (2, call("range", "shop/")))


EVERYTHING = Filter()


def audited(
    *entries: bytes, wanted: Filter = EVERYTHING, known: bool = True
) -> tuple[list[AuditedCall], Auditor]:
    auditor = Auditor(STOCK if known else None, wanted, Seqno(0))
    calls = [found for seqno, data in enumerate(entries, 1) for found in auditor.read(at(seqno), data)]
    return calls, auditor


def test_each_call_is_told_with_its_principal_and_its_keys() -> None:
    first = entry(OpenSession(CLIENT), KeepAlive(CLIENT, 9), SET, principals=("client/a",))
    second = entry(
        submit(9, (3, call("delete", "x"))), CloseSession(CLIENT, 9), principals=("client/b", "client/a")
    )
    calls, auditor = audited(first, b"", second)
    assert [(each.viewstamp, each.place, each.principal, each.method, each.keys) for each in calls] == [
        ("3.1", 0, "client/a", OPEN_SESSION, ()),
        ("3.1", 1, "client/a", "set", ("shop/a",)),
        ("3.1", 2, "client/a", "range", None),
        ("3.3", 0, "client/b", "delete", ("x",)),
        ("3.3", 1, "client/a", CLOSE_SESSION, ()),
    ]
    assert calls[1].sequence == 1
    assert (calls[1].client, calls[1].session, calls[1].log_time) == (CLIENT, 9, 77)
    assert auditor.findings == []


def test_values_are_told_only_when_they_are_asked_for() -> None:
    (without, _), _ = audited(entry(SET))
    assert without.arguments == ("<str 6>", "<bytes 6>")
    assert b"secret" not in msgspec.json.encode(without)
    (with_values, _), _ = audited(entry(SET), wanted=Filter(values=True))
    assert with_values.arguments == ("shop/a", b"secret")
    (unknown, _), _ = audited(entry(SET), known=False)
    assert unknown.keys is None


def test_calls_are_chosen_by_principal_method_and_viewstamp() -> None:
    entries = [
        entry(submit(9, (1, call("delete", "x"))), principals=(who,)) for who in ("client/a", "client/b")
    ]
    entries.append(entry(submit(9, (1, call("locks.acquire", "x", 1)))))

    def chosen(**fields: Any) -> list[str]:
        return [each.viewstamp for each in audited(*entries, wanted=Filter(**fields))[0]]

    assert chosen(principal="client/*") == ["3.1", "3.2"]
    assert chosen(principal=ANONYMOUS) == ["3.3"]
    assert chosen(method="locks.*") == ["3.3"]
    assert chosen(since=at(2)) == ["3.2", "3.3"]
    assert chosen(since=at(2), method="delete") == ["3.2"]


def test_entries_that_are_missing_are_a_finding() -> None:
    auditor = Auditor(None, Filter(), Seqno(4))
    list(auditor.read(at(5), b""))
    list(auditor.read(at(8), b""))
    assert auditor.findings == ["entries 6 to 7 are missing before 3.8"]


@pytest.mark.parametrize("since", [None, at(9)])
def test_digests_that_contradict_each_other_are_a_finding(since: Viewstamp | None) -> None:
    auditor = Auditor(None, Filter(since=since), Seqno(0))
    for seqno, check in enumerate([(0, 0), (1, 5), (1, 5), (1, 6), (2, 7)], 1):
        list(auditor.read(at(seqno), entry(check=check), digest=seqno if seqno == 2 else None))
    assert len(auditor.findings) == 2
    assert "entry 3.4 says that the digest of results up to entry 1 is" in auditor.findings[0]
    assert "the source at 3.2 says" in auditor.findings[1]


def test_a_log_that_begins_after_what_is_asked_for_is_a_finding() -> None:
    assert Auditor(None, Filter(since=at(4)), Seqno(4)).findings
    assert not Auditor(None, Filter(since=at(5)), Seqno(4)).findings
    assert not Auditor(None, Filter(), Seqno(4)).findings


def test_what_a_leader_had_executed_was_committed() -> None:
    _, auditor = audited(entry(check=(0, 0)), entry(check=(1, 5)), entry(check=(1, 5)))
    assert auditor.committed == 1


def test_an_entry_is_named_when_it_cannot_be_read_or_was_skipped() -> None:
    calls, _ = audited(b"\xff", make_skip_mark(entry(SET)), entry(submit(9, (1, msgspec.msgpack.encode(7)))))
    assert [each.method for each in calls] == [UNREADABLE_CALL, SKIPPED, UNREADABLE_CALL]


def test_findings_are_bounded() -> None:
    auditor = Auditor(None, Filter(), Seqno(0))
    for number in range(FINDINGS_MAX + 5):
        auditor.find(str(number))
    assert (len(auditor.findings), auditor.left_out) == (FINDINGS_MAX, 5)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("ab", "<str 2>"),
        (b"", "<bytes 0>"),
        ([1], "<list 1>"),
        ({}, "<dict 0>"),
        (5, "<int>"),
        (None, "<none>"),
    ],
)
def test_a_redacted_value_is_its_type_and_size(value: Any, told: str) -> None:
    assert redacted(value) == told


def test_what_an_operator_changed_is_told() -> None:
    limit = Declaration(1, {}, limit=("sessions_max", 9))
    calls, _ = audited(
        entry(declares=Declaration(1, {})),
        entry(declares=limit),
        entry(declares=Declaration(2, {}, raises=True)),
    )
    assert [(each.viewstamp, each.principal, each.method, each.arguments) for each in calls] == [
        ("3.2", BY_OPERATOR, LIMIT_SET, ("sessions_max = 9",)),
        ("3.3", BY_OPERATOR, FINALIZED, (f"level {LEVEL}", "version 2")),
    ]


def test_the_class_is_known_where_the_log_declares_it() -> None:
    told = Auditor(None, Filter(), Seqno(0), lambda interface: STOCK if interface == {"a": "b"} else None)
    list(told.read(at(1), entry(declares=Declaration(1, {"a": "b"}))))
    (call_of, _) = told.read(at(2), entry(SET))
    assert call_of.keys == ("shop/a",)
