"""What looks after a running node: its members, its certificates, what the class executes, its disk."""

from collections.abc import Awaitable, Callable

from viewstamp.core.ids import NodeId
from viewstamp.link.handshake import Welcome
from viewstamp.replica.replica import Replica
from viewstamp.runtime.address_book import AddressBook
from viewstamp.runtime.addresses import Address
from viewstamp.runtime.config import NodeConfig
from viewstamp.runtime.disk_hang import DiskHang
from viewstamp.runtime.driver import Driver
from viewstamp.runtime.member_watch import MemberWatch
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
        self.rotation = Rotation(node, security, transport.connections, replica.warn)
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
        self._watchdog.start()
        self._disk_hang.start()

    async def stop(self) -> None:
        """Look no longer."""
        self.rotation.stop()
        self._watchdog.stop()
        self._disk_hang.stop()
        await self._members.stop()
