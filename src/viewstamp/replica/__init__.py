"""The server side of a replicated machine: between a driver, a protocol core and the user's class.

Read in this order; `client` is another program, and has an order of its own:

1. `events`, `options`, `setup`: what goes into a replica and comes out of it, its limits, its parts;
2. `authorization`: which principal may make which call; `grant_check`: grants that do nothing;
3. `validation`, `batches`: clients' messages until they are the data of an entry, and back;
4. `replica`: `step`, where all events come in; `operated`: what operators ask;
5. `replicated_state`, `sessions`, `digest_chain`, `log_clock`: an entry executed, exactly once; `alarms`:
   entries that the leader orders because it is time;
6. `answers`, `responses`, `refusals`, `reads`, `directives`: what clients and operators are told, and
   queries, which pass no log; `waits`, `key_spans`: queries that wait until a key has changed;
7. `snapshot_body`: the replicated state as bytes; `exports`: what readers of the log get;
8. `divergence`, `recent_commands`: replicas that differ, judged by the majority; `disk_watch`: a
   member gives way while its disk does not answer;
9. `skip_mark`: an entry that no replica can execute;
10. `versions`, `upgrades`: what is in force, who can do more, and code that is too old for an entry;
11. `account`: what a replica says of itself;
12. `audit`: which principal did what, out of the entries of the log;
13. `compatibility`: whether a class may be deployed on a log and its snapshot; `code_check`: whether
    its code does something else without a new version; `migration_check`: whether its migrations make the
    same state each time.

The way of a write, function by function. At the leader:

- the client's message comes in: `replica.Replica.step`, `replica.Replica._requested`,
  `responses.ClientAddresses.address_of`;
- its calls are decoded, and encoded as this program does: `replica.Replica._submitted`,
  `validation.SubmitValidator.validate`;
- its principal may make them, or they are denied: `authorization.Authorizer.denial`;
- it waits for the end of the driver's turn: `replica.Replica._gather`, `batches.BatchBuffer.add`;
- the replica is woken, and what waits becomes one entry: `replica.Replica._woke`,
  `batches.BatchBuffer.take_batch`, `replica.Replica._propose`, `log_clock.LogClock.read`,
  `batches.InFlightBatches.propose`, `batches.encode_batch`;
- the core is fed, and what it wants sent and written goes to the driver: `replica.Replica._drive`.

When the core hands out the committed entry, at every replica:

- the entry is decoded, unless this replica proposed it: `replica.Replica._apply`,
  `batches.InFlightBatches.read`, `batches.decode_batch`;
- the leader's digest of earlier results is compared: `digest_chain.DigestChain.contradicts`,
  `divergence.Divergence.contradicted`;
- log time moves, and sessions expire: `replicated_state.ReplicatedState.apply`, `sessions.Sessions.overdue`;
- each command runs once, or is answered from memory: `replicated_state.ReplicatedState._submit`,
  `sessions.Sessions.use`, `replicated_state.ReplicatedState._run_unseen` (a whole message, as nearly always),
  `sessions.Sessions.remember_all`, or `replicated_state.ReplicatedState._run_once` (call by call);
- the results join the digest: `digest_chain.DigestChain.extend`.

A query: `reads.Reads.on_request`, `reads.Reads.begin_round`, and when the core answers `reads.Reads.answer`,
`reads.Reads.evaluate`.

At the end of the step the client's replica answers it: `responses.Responses.say_answers`,
`responses.Responses.lines`. If another node leads by then, it sends the client there and says whether the
command may have entered the log: `replica.Replica._on_leader_changed`,
`responses.Responses.redirect_entered`.
"""
