"""Two versions of a class have different fingerprints, whatever they are called (`runtime.differences`)."""

from viewstamp.machine.state_machine import StateMachine, command, compose
from viewstamp.runtime.differences import UNKNOWN, fingerprint_of


def before() -> type[StateMachine]:
    class Shop(StateMachine):
        total: int = 0

        @command
        def add(self, amount: int) -> None:
            self.total += amount

    return Shop


def after() -> type[StateMachine]:
    class Shop(StateMachine):
        total: int = 0

        @command
        def add(self, amount: int) -> None:
            self.total += 2 * amount

    return Shop


def test_fingerprints_differ_when_a_method_does() -> None:
    assert fingerprint_of(before()) == fingerprint_of(before())
    assert fingerprint_of(before()) != fingerprint_of(after())
    assert fingerprint_of(before()) != UNKNOWN


def test_fingerprints_differ_when_a_base_or_a_part_does() -> None:
    assert fingerprint_of(derived_from(before())) != fingerprint_of(derived_from(after()))
    whole = fingerprint_of(compose(shop=before()))
    assert whole != UNKNOWN
    assert fingerprint_of(compose(shop=after())) != whole


def derived_from(base: type[StateMachine]) -> type[StateMachine]:
    class Derived(base):  # type: ignore[misc,valid-type]
        pass

    return Derived


def test_a_class_without_source_is_compared_with_nothing() -> None:
    made = type("Made", (StateMachine,), {"__annotations__": {}, "__module__": "nowhere"})
    assert fingerprint_of(made) == UNKNOWN
