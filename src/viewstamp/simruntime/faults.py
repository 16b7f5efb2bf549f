"""What goes wrong while a run lasts, besides what disks and sockets do by themselves."""

import asyncio
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Final

from viewstamp.core.ids import MICROSECONDS_PER_SECOND
from viewstamp.sim.world.options import SwarmOptions
from viewstamp.simruntime.host import Host
from viewstamp.simruntime.loop import SimLoop, make_loop
from viewstamp.simruntime.machine import Machine
from viewstamp.simruntime.options import RuntimeOptions
from viewstamp.simruntime.sockets import Network

_CALLS_AHEAD: Final = 60
"""A crash that is aimed comes at one of this number of calls of the system."""
_STORM: Final = 40
_STALL_MAX_US: Final = 5_000_000
_GARBAGE_BYTES: Final = 64


class Injector:
    """Carries out the faults of one run."""

    def __init__(
        self,
        machines: list[Machine],
        network: Network,
        swarm: SwarmOptions,
        options: RuntimeOptions,
        rng: Random,
    ) -> None:
        self.machines = machines
        self.network = network
        self.world = network.world
        self.swarm = swarm
        self.options = options
        self.counts: Counter[str] = Counter()
        self.stopped = False
        self._rng = rng

    def begin(self) -> None:
        """Let things go wrong from now on."""
        processes, sockets = self.swarm.processes, self.options.sockets
        for rate, action in (
            (processes.crash_rate, self._crash_one),
            (processes.crash_all_rate, self._crash_all),
            (processes.pause_rate, self._pause),
            (processes.jump_rate, self._jump),
            (processes.crash_rate / 4, self._stop_one),
            (sockets.reset_rate, self._reset),
            (sockets.stall_rate, self._stall),
            (sockets.storm_rate, self._storm),
        ):
            self._repeat(rate, action)
        if self.swarm.partitions.mode != "none":
            self._repeat(MICROSECONDS_PER_SECOND / self.swarm.partitions.period_us, self._cut)

    def stop(self) -> None:
        """Let nothing more go wrong; what was cut is healed."""
        self.stopped = True
        self.network.cut.clear()

    def _repeat(self, rate: float, action: Callable[[], None]) -> None:
        if rate > 0:
            delay = int(self._rng.expovariate(rate) * 1e6) + 1
            self.world.after(delay, self._happen, rate, action)

    def _happen(self, rate: float, action: Callable[[], None]) -> None:
        if not self.stopped:
            action()
            self._repeat(rate, action)

    def _up(self) -> list[Machine]:
        return [machine for machine in self.machines if machine.alive]

    # Processes

    def ended(self, machine: Machine, reason: str) -> None:
        """A process has ended: somebody starts it again after a while."""
        self.counts["process ended"] += 1
        self.network.world.after(self._restart_us(), self._restart, machine)
        if reason not in {"crash", "stopped"}:
            self.counts["process ended by itself"] += 1

    def _restart_us(self) -> int:
        options = self.swarm.processes
        return self._rng.randint(options.restart_min_us, max(options.restart_min_us, options.restart_max_us))

    def _restart(self, machine: Machine) -> None:
        if not machine.alive:
            machine.start()

    def _crash_one(self) -> None:
        up = self._up()
        if not up:
            return
        machine = self._rng.choice(up)
        if self._rng.random() < self.options.calls.crash:
            machine.disk.crash_at = machine.disk.made + self._rng.randint(1, _CALLS_AHEAD)
        else:
            self.counts["crash"] += 1
            machine.crash()

    def _crash_all(self) -> None:
        self.counts["power lost everywhere"] += 1
        for machine in self._up():
            machine.crash(power=True)

    def _stop_one(self) -> None:
        up = self._up()
        if up:
            self.counts["asked to stop"] += 1
            self._rng.choice(up).stop()

    def _pause(self) -> None:
        up = self._up()
        if up:
            self.counts["pause"] += 1
            machine = self._rng.choice(up)
            length = self._rng.randrange(1, self.swarm.processes.pause_max_us + 1)
            machine.paused_until_us = max(machine.paused_until_us, self.world.now_us + length)

    def _jump(self) -> None:
        self.counts["clock leap"] += 1
        machine = self._rng.choice(self.machines)
        machine.clock.jump(self.world.now_us, self._rng.randrange(1, self.swarm.processes.jump_max_us + 1))

    # The network

    def _cut(self) -> None:
        """Separate some machines, the clients' side included, from the others for a while."""
        options, rng = self.swarm.partitions, self._rng
        names = [machine.name for machine in self.machines]
        count = 1 if options.mode == "isolate" else rng.randint(1, max(1, len(names) - 1))
        inside = set(rng.sample(names, min(count, len(names))))
        outside = [name for name in self.network.hosts if name not in inside]
        if rng.random() < 0.5:  # the clients reach both sides
            outside = [name for name in outside if name in names]
        one_way = options.one_way and rng.random() < 0.5
        links = {(a, b) for a in inside for b in outside}
        if not one_way:
            links |= {(b, a) for a in inside for b in outside}
        self.network.cut |= links
        self.counts["cut one way" if one_way else "cut"] += 1
        self.world.after(int(rng.expovariate(1 / options.length_us)) + 1, self._heal, links)

    def _heal(self, links: set[tuple[str, str]]) -> None:
        self.network.cut -= links

    def _reset(self) -> None:
        ends = [end for end in self.network.ends if end.stands]
        if ends:
            self.counts["connection reset"] += 1
            end = self._rng.choice(ends)
            self.network.reset(end.host.name, end.other.host.name)

    def _stall(self) -> None:
        ends = [end for end in self.network.ends if end.stands]
        if ends:
            self.counts["receiver stalled"] += 1
            self._rng.choice(ends).stalled_until_us = self.world.now_us + self._rng.randrange(
                1, _STALL_MAX_US
            )

    def _storm(self) -> None:
        """Many connect at once; some say nothing, some garbage, and all leave."""
        up = self._up()
        if not up:
            return
        self.counts["connection storm"] += 1
        machine = self._rng.choice(up)
        number = self.counts["connection storm"]
        host = Host(f"127.0.2.{number}", self.world, self._rng)
        self.network.hosts[host.name] = host
        host.begin()
        loop = make_loop(host, self.network, self.options.loop, lambda _error: None)
        for _ in range(self._rng.randint(2, _STORM)):
            loop.create_task(self._come_and_go(loop, machine))

    async def _come_and_go(self, loop: SimLoop, machine: Machine) -> None:
        port = machine.setup.cluster.addresses[machine.node][1]
        try:
            transport, _ = await loop.create_connection(asyncio.Protocol, machine.name, port)
        except OSError:
            return
        if self._rng.random() < 0.5:
            transport.write(self._rng.randbytes(self._rng.randint(1, _GARBAGE_BYTES)))
        await asyncio.sleep(self._rng.random())
        transport.close() if self._rng.random() < 0.5 else transport.abort()
