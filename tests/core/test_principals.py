"""Names of principals: what they may be, and which role each has."""

import pytest

from viewstamp.core.ids import NodeId
from viewstamp.core.principals import ANONYMOUS, LOCAL_OPERATOR, Role, is_name, node_principal, role_of


@pytest.mark.parametrize(
    ("principal", "role"),
    [
        (ANONYMOUS, Role.ANONYMOUS),
        (LOCAL_OPERATOR, Role.OPERATOR),
        (node_principal(NodeId(3)), Role.NODE),
        ("client/shop-1.eu", Role.CLIENT),
        ("operator/ann", Role.OPERATOR),
        ("operator/", Role.ANONYMOUS),
        ("operator", Role.ANONYMOUS),
        ("operator/ann/client", Role.ANONYMOUS),
        ("Operator/ann", Role.ANONYMOUS),
        ("root/ann", Role.ANONYMOUS),
        ("node/0", Role.NODE),
        ("node/2147483647", Role.NODE),
        ("node/2147483648", Role.ANONYMOUS),
        ("node/03", Role.ANONYMOUS),
        ("node/-3", Role.ANONYMOUS),
        ("node/3.0", Role.ANONYMOUS),
        ("node/three", Role.ANONYMOUS),
        ("node/" + "9" * 60, Role.ANONYMOUS),
        ("node/\N{ARABIC-INDIC DIGIT THREE}", Role.ANONYMOUS),
        ("", Role.ANONYMOUS),
    ],
)
def test_role_is_that_of_the_kind_when_the_name_can_be_one(principal: str, role: Role) -> None:
    assert role_of(principal) is role


@pytest.mark.parametrize("text", ["", "a b", "a/b", "ä", "a\n", "a*", "x" * 65])
def test_text_is_refused_as_a_name_when_it_has_other_letters_or_is_too_long(text: str) -> None:
    assert not is_name(text)
