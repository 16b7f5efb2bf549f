"""Grants and the keys of tokens, taken in again without a restart.

Rules of this file:

- only grants and tokens are taken from the cluster file; whatever else has changed there waits for a restart;
- a file that cannot be used changes nothing, and the log says so;
- a connection whose principal may do something else than before is closed, so that nothing that was begun
  under the old grants, a wait or a session's notifications, outlives them. Its client connects again;
- the last grant is not taken away like this: a file that was cut short would open the node to everybody;
- grants decide what enters, never what an entry does (`replica.authorization`): members with other grants do
  not differ in their states. What a client may do then depends on the node that it reaches.
"""

import logging
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Final

from viewstamp.core.errors import ConfigurationError
from viewstamp.core.ids import NodeId
from viewstamp.core.principals import Role, role_of
from viewstamp.link.handshake import Doorkeeper
from viewstamp.replica.authorization import changes_of, policy_digest
from viewstamp.replica.grant_check import idle_grants
from viewstamp.replica.replica import Replica
from viewstamp.runtime.config import ClusterConfig
from viewstamp.runtime.connection import Connection
from viewstamp.runtime.security import Security

LOG: Final = logging.getLogger("viewstamp.runtime")
_WARNINGS_MAX: Final = 10
CHANGED: Final = "what its principal may do has changed: connect again"
REVOKED: Final = "the keys of tokens have changed: show the token again"


class Policy:
    """Grants and keys of tokens at one node, while it serves."""

    def __init__(
        self,
        node: NodeId,
        cluster: ClusterConfig,
        replica: Replica,
        doorkeeper: Doorkeeper,
        security: Security,
        connections: Callable[[], Iterable[Connection]],
        warn: Callable[[tuple[str, ...]], None],
    ) -> None:
        """`warn` is told what each status is to say of the grants."""
        self._node = node
        self._grants, self._tokens = cluster.grants, cluster.tokens
        self._replica = replica
        self._doorkeeper = doorkeeper
        self._security = security
        self._connections = connections
        self._tell = warn

    def start(self) -> None:
        """Say which grants do nothing."""
        self._warn()

    def reload(self, read: Callable[[], ClusterConfig] | None) -> None:
        """Take in what the cluster file says now; `read` returns it, or raises `ConfigurationError`.

        None: there is no file, and nothing is changed.
        """
        if read is None:
            return
        try:
            cluster = self._checked(read())
            self._take_keys(cluster)
        except ConfigurationError as error:
            LOG.warning("node %d: grants and keys of tokens stay as they were: %s", self._node, error)
            return
        if cluster.grants != self._grants:
            self._take_grants(cluster)

    def _checked(self, cluster: ClusterConfig) -> ClusterConfig:
        if self._grants and not cluster.grants:
            raise ConfigurationError("there is no grant left, which permits everything: restart the node")
        return cluster

    def _take_keys(self, cluster: ClusterConfig) -> None:
        if cluster.tokens == self._tokens:
            return
        verifier = self._security.verifier
        if verifier is None:
            raise ConfigurationError("this node accepted no tokens when it started: restart it")
        verifier.take(cluster.tokens)
        self._tokens = cluster.tokens
        LOG.info("node %d: it accepts the tokens of %d keys now", self._node, len(cluster.tokens.keys))
        for connection in list(self._connections()):
            is_certified = connection.tls is not None and connection.tls.peer is not None
            if role_of(connection.principal) is Role.CLIENT and not is_certified:
                connection.close(REVOKED)

    def _take_grants(self, cluster: ClusterConfig) -> None:
        before, self._grants = self._grants, cluster.grants
        self._replica.authorizer.permit(cluster.grants)
        self._doorkeeper.permits(policy_digest(cluster.grants))
        LOG.info("node %d: %d grants are in force now, %d were", self._node, len(self._grants), len(before))
        self._warn()
        definition = self._replica.definition
        changed = changes_of(before, cluster.grants, definition)
        for connection in list(self._connections()):
            is_member = role_of(connection.principal) is Role.NODE
            if not is_member and changed(connection.principal):
                connection.close(CHANGED)

    def _warn(self) -> None:
        idle = tuple(islice(idle_grants(self._grants, self._replica.definition), _WARNINGS_MAX))
        self._tell(idle)
        for line in idle:
            LOG.warning("node %d: %s", self._node, line)
