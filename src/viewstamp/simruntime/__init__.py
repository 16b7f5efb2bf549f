"""The runtime under simulation: servers, clients and files of production, in a world that one seed decides.

The simulator of `viewstamp.sim` runs the cores. Here run servers, async clients, the transport with its
connections, the driver, the syncer, the snapshotter and all of `storage`, as they are. What they ask of the
system is simulated: the loop and its clock, sockets, threads, forked copies, and the calls that storage
makes. Read in this order; each file says its rules at its top:

1. `fibers`, `host`, `executors`: threads of which one runs at a time, machines and the time that code takes,
   executors and locks;
2. `loop`, `sockets`, `transports`: the event loop of each process, streams between hosts;
3. `calls`, `watch`: the calls of the system that storage makes, and what is durable, read from the disk;
4. `process`, `machine`, `users`: nodes and clients over their lives, with the judge beside them;
5. `options`, `faults`, `run`: what a seed draws, what goes wrong, and the verdict.
"""
