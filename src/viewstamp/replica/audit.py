"""The audit trail: which principal did what at which viewstamp, read out of the entries of the log.

Rules of this file:

- the log says what was asked and by whom, as the admitting server had proved it, and not how it ended:
  results are not in it, and a command that was sent twice stands in it twice;
- values are left out unless they are asked for: of an argument its type and size are said. Keys are told
  where the class is known, which says what they are;
- entries follow one another without a gap, and what leaders wrote of the digest chain of results agrees with
  itself and with that of the source: what does not is a *finding*.
"""

from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, Final

import msgspec

from viewstamp.core.errors import InvalidCall
from viewstamp.core.ids import Seqno, Viewstamp
from viewstamp.core.messages import UNREADABLE, CloseSession, Logged, OpenSession, Submit
from viewstamp.core.principals import ANONYMOUS
from viewstamp.machine.access import EVERY_KEY, Span
from viewstamp.machine.definition import MachineDefinition
from viewstamp.replica.batches import Batch
from viewstamp.replica.digest_chain import DIGESTS_KEPT
from viewstamp.replica.skip_mark import read_skip_mark

OPEN_SESSION: Final = "(open session)"
CLOSE_SESSION: Final = "(close session)"
SKIPPED: Final = "(skipped by an operator)"
UNREADABLE_CALL: Final = "(unreadable)"
FINALIZED: Final = "(finalize)"
LIMIT_SET: Final = "(set)"
BY_OPERATOR: Final = "(an operator)"
"""The principal of a directive. The log does not say which operator it was."""
Recognize = Callable[[Mapping[str, str]], MachineDefinition | None]
FINDINGS_MAX: Final = 100
"""More are counted and not told."""
_BATCH: Final[msgspec.msgpack.Decoder[Batch]] = msgspec.msgpack.Decoder(Batch)


class AuditedCall(msgspec.Struct, frozen=True):
    """One call, or what happened to a session, as the log has it."""

    viewstamp: str
    place: int
    """Among the calls of its entry, from 0."""
    log_time: int
    """The leader's, in microseconds: it is not a date."""
    principal: str
    client: int
    session: int
    sequence: int
    """The client's number of the call; 0 for what is about its session."""
    method: str
    keys: tuple[str, ...] | None
    """The keys that it touches, `FIRST..END` for a range, `*` for every key; None: the class is not known."""
    arguments: tuple[Any, ...]
    """Types and sizes, or the values where they are wanted."""


class Filter(msgspec.Struct, frozen=True):
    """Which calls are wanted."""

    principal: str = "*"
    """A glob."""
    method: str = "*"
    """A glob."""
    since: Viewstamp | None = None
    values: bool = False

    def wants(self, call: AuditedCall) -> bool:
        """Return whether this call is one of them."""
        return fnmatchcase(call.principal, self.principal) and fnmatchcase(call.method, self.method)


class Auditor:
    """Reads entries in their order."""

    __slots__ = (
        "_definition",
        "_digests",
        "_filter",
        "_findings",
        "_last",
        "_recognize",
        "committed",
        "left_out",
    )

    def __init__(
        self,
        definition: MachineDefinition | None,
        wanted: Filter,
        base: Seqno,
        recognize: Recognize = lambda _interface: None,
    ) -> None:
        """`base` is the last entry that the source does not hold.

        Where the class is not known, `recognize` returns it for an interface that the log declares.
        """
        self._definition = definition
        self._recognize = recognize
        self._filter = wanted
        self._last = base
        self._digests: dict[int, tuple[int, str]] = {}
        """By position: the digest of results that was said first, and by what."""
        self._findings: list[str] = []
        self.left_out = 0
        """Findings beyond `FINDINGS_MAX`."""
        self.committed: Seqno = base
        """Everything up to here was committed for certain: a leader had executed it."""
        if wanted.since is not None and wanted.since.seqno <= base > 0:
            self.find(f"the log begins after entry {base}: what was before is in a snapshot and is not shown")

    @property
    def findings(self) -> list[str]:
        """What shows that something is missing, or is not as it was written."""
        return self._findings

    def find(self, what: str) -> None:
        """Note a finding."""
        if len(self._findings) < FINDINGS_MAX:
            self._findings.append(what)
        else:
            self.left_out += 1

    def read(self, viewstamp: Viewstamp, data: bytes, digest: int | None = None) -> Iterator[AuditedCall]:
        """Yield the wanted calls of the next entry; `digest` is that of the results after it, if known."""
        if viewstamp.seqno != self._last + 1:
            self.find(f"entries {self._last + 1} to {viewstamp.seqno - 1} are missing before {viewstamp}")
        self._last = viewstamp.seqno
        if digest is not None:
            self._compare(viewstamp.seqno, digest, f"the source at {viewstamp}")
        if not data:
            return iter(())
        since = self._filter.since
        if since is not None and viewstamp < since:
            self._batch(viewstamp, data)
            return iter(())
        return filter(self._filter.wants, self._calls(viewstamp, data))

    def _calls(self, viewstamp: Viewstamp, data: bytes) -> Iterator[AuditedCall]:
        batch = self._batch(viewstamp, data)
        if batch is None:
            mark = read_skip_mark(data)
            method = UNREADABLE_CALL if mark is None else SKIPPED
            yield AuditedCall(str(viewstamp), 0, 0, "", 0, 0, 0, method, None, ())
            return
        principals = batch.principals or [ANONYMOUS]
        if len(principals) == 1:
            principals *= len(batch.messages)
        place = 0
        if (directive := self._directive(viewstamp, batch)) is not None:
            yield directive
            place = 1
        for message, principal in zip(batch.messages, principals, strict=False):
            for sequence, method, keys, arguments in self._said(message):
                session = 0 if isinstance(message, OpenSession) else message.session
                yield AuditedCall(
                    viewstamp=str(viewstamp),
                    place=place,
                    log_time=batch.log_time,
                    principal=principal,
                    client=message.client,
                    session=session,
                    sequence=sequence,
                    method=method,
                    keys=keys,
                    arguments=arguments,
                )
                place += 1

    def _directive(self, viewstamp: Viewstamp, batch: Batch) -> AuditedCall | None:
        """Return what an operator changed by this entry; None: nothing."""
        declares = batch.declares
        if declares is None:
            return None
        if self._definition is None:
            self._definition = self._recognize(declares.interface)
        arguments: tuple[str, ...]
        if declares.limit is not None:
            method, arguments = LIMIT_SET, (f"{declares.limit[0]} = {declares.limit[1]}",)
        elif declares.raises:
            method, arguments = FINALIZED, (f"level {batch.level}", f"version {declares.machine}")
        else:
            return None
        return AuditedCall(str(viewstamp), 0, batch.log_time, BY_OPERATOR, 0, 0, 0, method, (), arguments)

    def _batch(self, viewstamp: Viewstamp, data: bytes) -> Batch | None:
        try:
            batch = _BATCH.decode(data)
        except UNREADABLE:
            return None
        seqno, digest = batch.check
        self.committed = max(self.committed, Seqno(seqno))
        self._compare(seqno, digest, f"entry {viewstamp}")
        return batch

    def _compare(self, seqno: int, digest: int, who: str) -> None:
        known = self._digests.setdefault(seqno, (digest, who))
        self._digests.pop(seqno - DIGESTS_KEPT, None)
        if known[0] != digest:
            self.find(
                f"{who} says that the digest of results up to entry {seqno} is {digest:016x}, and {known[1]} "
                f"says {known[0]:016x}: an entry was left out or changed, or replicas differed"
            )

    def _said(self, message: Logged) -> Iterator[tuple[int, str, tuple[str, ...] | None, tuple[Any, ...]]]:
        if isinstance(message, Submit):
            for sequence, raw in message.calls:
                yield sequence, *self._call(raw)
        elif isinstance(message, OpenSession):
            yield 0, OPEN_SESSION, (), ()
        elif isinstance(message, CloseSession):
            yield 0, CLOSE_SESSION, (), ()

    def _call(self, raw: msgspec.Raw) -> tuple[str, tuple[str, ...] | None, tuple[Any, ...]]:
        try:
            method, *arguments = msgspec.msgpack.decode(raw)
        except (*UNREADABLE, ValueError, TypeError):
            return UNREADABLE_CALL, None, ()
        shown = tuple(arguments) if self._filter.values else tuple(map(redacted, arguments))
        return str(method), self._keys(raw), shown

    def _keys(self, raw: msgspec.Raw) -> tuple[str, ...] | None:
        if self._definition is None:
            return None
        try:
            arguments = self._definition.decode("command", raw)
        except InvalidCall:
            return None
        method = self._definition.methods[type(arguments).__struct_config__.tag]
        return tuple(_shown(span) for span in method.access.spans(arguments))


def redacted(value: Any) -> str:
    """Return what may be told of a value: its type, and how large it is."""
    name = "none" if value is None else type(value).__name__
    return f"<{name} {len(value)}>" if isinstance(value, str | bytes | list | dict) else f"<{name}>"


def _shown(span: Span) -> str:
    if span == EVERY_KEY:
        return "*"
    return span.start if span.end == span.start + "\0" else f"{span.start}..{span.end or ''}"
