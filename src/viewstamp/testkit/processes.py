"""Server processes on this machine, for the demonstration and for tests that kill them."""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Final, Self

from viewstamp.core.errors import StorageError
from viewstamp.core.ids import NodeId
from viewstamp.runtime.addresses import LOOPBACK, Address, format_address, free_ports
from viewstamp.runtime.config import ClusterConfig, Member, TlsFiles

STARTS_WITHIN_S: Final = 30.0
ENDS_WITHIN_S: Final = 20.0
SETTINGS: Final = "segment_bytes = 4194304\n"
"""Small segments: new data directories are made at once."""


class ServerDied(StorageError):
    """A server process ended by itself; the text is the last line that it printed."""


class ServerProcess:
    """One server as a process of its own. It keeps its data directory over restarts."""

    def __init__(
        self, folder: Path, node: NodeId, arguments: Sequence[str] = (), *, place: Sequence[str] = ()
    ) -> None:
        """`place` says which cluster it belongs to, where that is not the file in the folder."""
        self.node = node
        self.data = folder / f"data{node}"
        self.log = folder / f"node{node}.log"
        """Standard error of all its lives."""
        self._arguments = [
            *(sys.executable, "-P", "-m", "viewstamp", "serve", *arguments),
            *(place or ("--cluster", str(folder / "cluster.toml"))),
            *("--node", str(node), "--data", str(self.data)),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process's id. Only while it is started."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self, environment: Mapping[str, str] | None = None) -> None:
        """Start the process; `wait_ready` tells when it serves."""
        assert not self.running
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603  this very program, no shell
                self._arguments,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, **(environment or {})},
            )

    def wait_ready(self, within_s: float = STARTS_WITHIN_S) -> None:
        """Return once it listens.

        Raises:
            ServerDied: it ended, or did not listen in time.
        """
        assert self._process is not None
        output = self._process.stdout
        assert output is not None
        if not _readable(output, within_s):
            raise ServerDied(f"node {self.node} did not listen within {within_s:g} s")
        if not output.readline():
            code = self._process.wait()
            raise ServerDied(f"node {self.node} ended with code {code}: {self.last_line()}")

    def kill(self) -> None:
        """End it with SIGKILL: it gets no chance to write or to say anything."""
        self.signal(signal.SIGKILL)
        self.wait()

    def close(self) -> None:
        """End it if it runs, and give back what this process holds of it."""
        if self._process is not None:
            self.kill()

    def stop(self) -> int:
        """Ask it to end with SIGTERM, and return its exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def signal(self, number: int) -> None:
        """Send a signal to this process, if it runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def wait(self, within_s: float = ENDS_WITHIN_S) -> int:
        """Wait for its end and return its exit code."""
        assert self._process is not None
        try:
            code = self._process.wait(within_s)
        finally:
            if self._process.stdout is not None:
                self._process.stdout.close()
        return code

    def last_line(self) -> str:
        """Return the last line that it printed to standard error."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return lines[-1] if lines else "it printed nothing"


def _readable(output: IO[bytes], within_s: float) -> bool:
    ready, _, _ = select.select([output], [], [], within_s)
    return bool(ready)


class ServerGroup:
    """The servers of one cluster in one folder. Leave the `with` block, and every process has ended."""

    def __init__(
        self,
        folder: Path,
        size: int = 3,
        *,
        protocol: str = "raft",
        arguments: Sequence[str] = (),
        options: Mapping[str, object] | None = None,
        replica: Mapping[str, object] | None = None,
        settings: str = SETTINGS,
        secured: bool = False,
    ) -> None:
        """Write the files; `start` starts the processes. `arguments` go to each `viewstamp serve`.

        Where they are `secured` the caller writes the CA and certificates into the folder before that.
        """
        members = tuple(Member(node, LOOPBACK, port) for node, port in enumerate(free_ports(size), start=1))
        self.cluster = ClusterConfig(
            cluster_id="processes",
            members=members,
            protocol=protocol,
            options=dict(options or {}),
            replica=dict(replica or {}),
            tls=TlsFiles(str(folder / "ca.pem")) if secured else None,
        )
        self.cluster_file = folder / "cluster.toml"
        self.cluster.save(self.cluster_file)
        settings_file = folder / "settings.toml"
        settings_file.write_text(settings, encoding="utf-8")
        self._folder = folder
        self._arguments = arguments = [*arguments, "--settings", str(settings_file)]
        self.servers = {node: ServerProcess(folder, node, arguments) for node in self.cluster.node_ids}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for server in self.servers.values():
            server.close()

    def start(self) -> None:
        """Start those that do not run, and return once all of them listen."""
        started = [server for server in self.servers.values() if not server.running]
        for server in started:
            server.start()
        for server in started:
            server.wait_ready()

    def join(self, node: NodeId, seed: NodeId) -> Address:
        """Start one more node, which waits to be added to the cluster of a member; return where it is."""
        listen = LOOPBACK, free_ports(1)[0]
        place = ["--join", format_address(self.cluster.addresses[seed]), "--listen", format_address(listen)]
        server = self.servers[node] = ServerProcess(self._folder, node, self._arguments, place=place)
        server.start()
        server.wait_ready()
        return listen

    def kill_all(self) -> None:
        """End all with SIGKILL, as near to at once as signals allow."""
        for server in self.servers.values():
            server.signal(signal.SIGKILL)
        for server in self.servers.values():
            server.wait()
