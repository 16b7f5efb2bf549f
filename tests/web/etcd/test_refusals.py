"""Each error has the code, the status and the text of etcd 3.4, and says whether it is certain."""

import pytest

from viewstamp.core.errors import (
    ConfigurationError,
    NotExecuted,
    OutcomeUnknown,
    Overloaded,
    PermissionDenied,
    SessionExpired,
)
from viewstamp.services.store.types import (
    CompactedRevision,
    DuplicateKey,
    FutureRevision,
    LeaseExists,
    LeaseNotFound,
)
from viewstamp.web.etcd.refusals import Refusal, refusal_of


@pytest.mark.parametrize(
    ("error", "status", "code", "text", "executed"),
    [
        (LeaseNotFound("x"), 404, 5, "etcdserver: requested lease not found", False),
        (LeaseExists("x"), 412, 9, "etcdserver: lease already exists", False),
        (CompactedRevision("x"), 400, 11, "etcdserver: mvcc: required revision has been compacted", False),
        (FutureRevision("x"), 400, 11, "etcdserver: mvcc: required revision is a future revision", False),
        (DuplicateKey("x"), 400, 3, "etcdserver: duplicate key given in txn request", False),
        (PermissionDenied("x"), 403, 7, "etcdserver: permission denied", False),
        (Overloaded("x"), 429, 8, "etcdserver: mvcc: database space exceeded", False),
        (OutcomeUnknown("x"), 503, 14, "etcdserver: request timed out", None),
        (NotExecuted("x"), 503, 14, "etcdserver: no leader", False),
        (SessionExpired("x"), 503, 14, "etcdserver: no leader", False),
        (ConfigurationError("of this\nprogram"), 500, 2, "of this program", None),
    ],
)
def test_errors_are_told_as_etcd_tells_them(
    error: Exception, status: int, code: int, text: str, executed: bool | None
) -> None:
    refusal = refusal_of(error)
    assert refusal is not None
    assert refusal.status == status
    document = refusal.document
    assert (document["code"], document["error"], document["message"]) == (code, text, text)
    assert document["executed"] is executed
    stream = refusal.of_stream["error"]
    assert (stream["grpc_code"], stream["http_code"], stream["message"]) == (code, status, text)


def test_a_bug_is_not_told_as_an_error_of_the_caller() -> None:
    assert refusal_of(ZeroDivisionError()) is None
    assert refusal_of(Refusal(3, "x")) is not None
