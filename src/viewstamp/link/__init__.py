"""One connection between two nodes, or of a client, without the connection: no I/O, no clock, no randomness.

Bytes and moments go in; events, bytes to send and one deadline come out. `dialer.Dialer` is the end that
opens connections to one server, `acceptor.Acceptor` the end that accepts one. The drivers are
`runtime.connection` (asyncio), `runtime.sockets` (blocking) and `sim.world.connections` (virtual).

Read in this order: `framing` (frames on a stream, and what they may take that have not ended),
`handshake` (what the two ends say first, and what is
refused), `credentials` and `proof` (with whom a connection speaks), `dialer`, `acceptor`,
`admission`. The bytes are described in docs/reference/wire-format.md.
"""
