"""What clients submit is checked, decoded and encoded here before it may wait for an entry of the log."""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from viewstamp.core.errors import InvalidCall
from viewstamp.core.ids import ClientAddress
from viewstamp.core.messages import UNREADABLE, Submit
from viewstamp.core.principals import ANONYMOUS
from viewstamp.machine.definition import MachineDefinition
from viewstamp.machine.in_force import Allows
from viewstamp.replica.authorization import Authorizer
from viewstamp.replica.batches import DecodedCall, DecodedMessage, Decoders
from viewstamp.replica.options import ReplicaOptions
from viewstamp.replica.refusals import RefusalLine, Sieve, refuse_all

_SUBMIT: Final[msgspec.msgpack.Decoder[Submit]] = msgspec.msgpack.Decoder(Submit)
_ENCODER: Final = msgspec.msgpack.Encoder()


class SubmitValidator:
    """Checks what clients submit before it enters the log."""

    __slots__ = (
        "_bytes_max",
        "_calls_max",
        "_decode",
        "_definition",
        "_finds_unknown",
        "_freeing",
        "allows",
        "authorizer",
        "is_full",
    )

    def __init__(
        self,
        definition: MachineDefinition,
        options: ReplicaOptions,
        authorizer: Authorizer | None = None,
        allows: Callable[[], Allows | None] = lambda: None,
    ) -> None:
        """`authorizer` None: every principal may make every call.

        `allows` returns what says which commands the version in force has; None: all of the class.
        """
        self.allows = allows
        self._definition = definition
        self.authorizer = authorizer
        self._decode = Decoders.of(definition).message if definition.encodes_alike("command") else None
        """None: the commands of this class have to be encoded one by one."""
        self._bytes_max = options.command_bytes_max
        self._calls_max = options.message_calls_max
        self._finds_unknown = definition.finds_unknown("command")
        methods = definition.methods.values()
        self._freeing = frozenset(method.arguments for method in methods if method.access.frees)
        self.is_full = False
        """Whether only commands that free something may enter: the disk is nearly full."""

    def validate(
        self, source: ClientAddress, message: Submit, encoded: bytes, principal: str = ANONYMOUS
    ) -> tuple[DecodedMessage | None, list[RefusalLine]]:
        """Decode all calls; where some are invalid or denied, encode the message again without them.

        Returns what may enter the log, if anything, and the lines for the calls that may not.
        """
        if len(message.calls) > self._calls_max:
            return None, refuse_all(message.calls, f"more than {self._calls_max} calls in one message")
        plain = not self.is_full and self.allows() is None
        if self._decode is not None and len(encoded) <= self._bytes_max and plain:
            try:
                typed = self._decode(encoded)
                if self.authorizer is None or self.authorizer.permits_all(principal, typed.calls):
                    canonical = self._canonical(source, principal, message, typed, encoded)
                    if canonical is not None:
                        return canonical, []
            except UNREADABLE:
                pass  # at least one call is invalid: look at each
        return self._sift(source, message, principal)

    def _canonical(
        self, source: ClientAddress, principal: str, message: Submit, typed: Any, encoded: bytes
    ) -> DecodedMessage | None:
        """Return the message in the one form in which it may stand in the log: what this program encodes.

        None: a call holds what this class does not know, and would lose.

        A client's own bytes could mean something else to a replica that decodes them at another depth, or
        with another version of the decoder.
        """
        data = _ENCODER.encode(typed)
        if data == encoded:
            return DecodedMessage(message, typed.calls, principal, source, encoded, encoded)
        if self._finds_unknown and self._loses(message, typed):
            return None
        if self._definition.has_optional:
            canonical = self._definition.canonical
            kept = [
                (sequence, msgspec.Raw(canonical(arguments, raw)))
                for (sequence, arguments), (_, raw) in zip(typed.calls, message.calls, strict=True)
            ]
            own = Submit(message.client, message.session, message.acknowledged, kept)
            data = _ENCODER.encode(own)
            if data == encoded:
                return DecodedMessage(message, typed.calls, principal, source, encoded, encoded)
            return DecodedMessage(own, typed.calls, principal, source, data)
        return DecodedMessage(_SUBMIT.decode(data), typed.calls, principal, source, data)

    def _loses(self, message: Submit, typed: Any) -> bool:
        unknown = self._definition.unknown
        pairs = zip(typed.calls, message.calls, strict=True)
        return any(unknown(arguments, raw) for (_, arguments), (_, raw) in pairs)

    def _sift(
        self, source: ClientAddress, message: Submit, principal: str
    ) -> tuple[DecodedMessage | None, list[RefusalLine]]:
        calls: list[DecodedCall] = []
        kept: list[tuple[int, msgspec.Raw]] = []
        refused = Sieve()
        for sequence, raw in message.calls:
            if refused.is_full:
                refused.refuse(sequence)
                continue
            try:
                arguments, data = self._check(sequence, raw)
                if self.authorizer is not None and (denial := self.authorizer.denial(principal, arguments)):
                    refused.deny(sequence, denial)
                    continue
                if self.is_full and type(arguments) not in self._freeing:
                    refused.full(sequence)
                    continue
                calls.append((sequence, arguments))
                kept.append((sequence, msgspec.Raw(data)))
            except InvalidCall as error:
                refused.explain(sequence, str(error))
        if refused.lines and not kept:
            return None, refused.lines
        own = Submit(message.client, message.session, message.acknowledged, kept)
        return DecodedMessage(own, calls, principal, source, _ENCODER.encode(own)), refused.lines

    def _check(self, sequence: int, raw: msgspec.Raw) -> tuple[Any, bytes]:
        if sequence <= 0:
            raise InvalidCall("sequence numbers start from 1")
        if len(memoryview(raw)) > self._bytes_max:
            raise InvalidCall(f"the call is longer than {self._bytes_max} bytes")
        arguments = self._definition.decode("command", raw)
        if (allows := self.allows()) is not None and (reason := allows(arguments, raw)):
            raise InvalidCall(reason)
        return arguments, self._definition.canonical(arguments, raw)
