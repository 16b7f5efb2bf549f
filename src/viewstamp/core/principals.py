"""Names of those who act on a cluster, as a server has proved them: one text for each connection.

A *principal* is never what a hello says of itself. It comes out of a certificate (`node/3`, `client/shop`,
`operator/ann`), out of the secret file of a cluster on one machine (`node/3`, `local-operator`), or it is
`anonymous`: somebody who has proved nothing. The text is what grants, the log and the audit trail name.
"""

from enum import Enum
from typing import Final

from viewstamp.core.ids import NODE_ID_MAX, NodeId


class Role(Enum):
    """What kind of principal somebody is. Decides which messages are taken from its connections."""

    NODE = "node"
    """A member of the cluster."""
    OPERATOR = "operator"
    """May also give directives."""
    CLIENT = "client"
    """May use the service."""
    ANONYMOUS = "anonymous"
    """Has proved nothing: may use the service where no grants are written."""


ANONYMOUS: Final = "anonymous"
LOCAL_OPERATOR: Final = "local-operator"
"""Has the cluster's secret file, which only the user who started the servers can read."""
NAME_LENGTH_MAX: Final = 64
_NODE_DIGITS_MAX: Final = 10


def node_principal(node: NodeId) -> str:
    """Return the name of a member."""
    return f"{Role.NODE.value}/{node}"


def role_of(principal: str) -> Role:
    """Return the role of a principal; what is not the name of one has proved nothing."""
    if principal == LOCAL_OPERATOR:
        return Role.OPERATOR
    kind, slash, name = principal.partition("/")
    if not slash or not is_name(name) or (kind == Role.NODE.value and not _is_node(name)):
        return Role.ANONYMOUS
    return {"node": Role.NODE, "client": Role.CLIENT, "operator": Role.OPERATOR}.get(kind, Role.ANONYMOUS)


def _is_node(name: str) -> bool:
    """Return whether this is how `node_principal` writes a number: one member has one name."""
    is_number = name.isascii() and name.isdigit() and len(name) <= _NODE_DIGITS_MAX
    return is_number and str(int(name)) == name and int(name) <= NODE_ID_MAX


def is_name(text: str) -> bool:
    """Return whether this can be the name of a client or an operator: short, of ASCII letters and `-_.`."""
    usable = all(letter.isascii() and (letter.isalnum() or letter in "-_.") for letter in text)
    return usable and 1 <= len(text) <= NAME_LENGTH_MAX
