"""What looks after a running node: members, certificates, grants, what the class executes, the disk."""

from collections.abc import Awaitable, Callable
from functools import partial
from itertools import chain

from viewstamp.core.ids import NodeId
from viewstamp.link.handshake import Welcome
from viewstamp.replica.replica import Replica
from viewstamp.runtime.address_book import AddressBook
from viewstamp.runtime.addresses import Address
from viewstamp.runtime.config import ClusterConfig, NodeConfig
from viewstamp.runtime.disk_hang import DiskHang
from viewstamp.runtime.driver import Driver
from viewstamp.runtime.member_watch import MemberWatch
from viewstamp.runtime.policy import Policy
from viewstamp.runtime.process import Process
from viewstamp.runtime.rotation import Rotation
from viewstamp.runtime.security import Security
from viewstamp.runtime.transport import Transport
from viewstamp.runtime.watchdog import Watchdog


class Watching:
    """Those that look after one node, from `start` to `stop`."""

    def __init__(
        self,
        node: NodeId,
        config: NodeConfig,
        cluster: ClusterConfig,
        driver: Driver,
        replica: Replica,
        transport: Transport,
        *,
        book: AddressBook,
        security: Security,
        ask: Callable[[Address], Awaitable[Welcome | str]],
        process: Process,
        ends_when_stuck: bool,
        disk_exit_code: int,
    ) -> None:
        """Make them; with `ends_when_stuck` what hangs ends the process, else it is named in the log.

        A disk that hangs ends it with `disk_exit_code`.
        """
        self._members = MemberWatch(driver.status, book, transport, ask, config.data)
        self.rotation = Rotation(node, security, transport.connections, partial(self._warn, "certificates"))
        self.policy = Policy(
            node,
            cluster,
            replica,
            transport.doorkeeper,
            security,
            transport.connections,
            partial(self._warn, "grants"),
        )
        self._replica = replica
        self._warnings: dict[str, tuple[str, ...]] = {}
        """What each status says, by what it is about."""
        self._watchdog = Watchdog(
            node,
            lambda: replica.state.runner,
            limit_ms=config.command_limit_ms,
            end=process.end if ends_when_stuck else None,
            process=process,
        )
        self._disk_hang = DiskHang(
            node,
            lambda: driver.sync_running,
            limit_ms=config.sync_hang_ms if ends_when_stuck else 0,
            sever=transport.sever,
            end=lambda: process.end(disk_exit_code),
            process=process,
        )

    def start(self) -> None:
        """Begin to look."""
        self._members.start()
        self.rotation.start()
        self.policy.start()
        self._watchdog.start()
        self._disk_hang.start()

    def _warn(self, about: str, lines: tuple[str, ...]) -> None:
        self._warnings[about] = lines
        self._replica.warn(tuple(chain.from_iterable(self._warnings.values())))

    async def stop(self) -> None:
        """Look no longer."""
        self.rotation.stop()
        self._watchdog.stop()
        self._disk_hang.stop()
        await self._members.stop()
