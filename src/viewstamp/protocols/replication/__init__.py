"""A log, and how it gets from the leader to its followers: what Raft and primary-backup share.

Nothing here elects, counts or commits. A protocol says that in its own words and hands the rest to these
parts; the parts know no protocol. `view` means Raft's term or primary-backup's epoch. Reading order:

1. `messages`: the fields of what a leader and its followers say, which the protocols subclass.
2. `log`: the entries in memory, and which of them are on disk.
3. `follower`: what of a message is new, and what is to be acknowledged.
4. `sender`: what a leader knows of one follower, and what it sends to it.
5. `snapshot_transfer`, `compaction`: snapshots that arrive, and those of the own machine; applying.
6. `read_rounds`: linearizable reads without writing. `introductions`: members that have no log yet.
7. `journal`: the log read back; `stored_log`: looked at or edited while no node runs.
8. `configuration`, `quorums`: who the members are, and who of them must agree. `changes`, `rounds`: which
   configuration should come next, and whether a learner keeps up.
9. `recovery`: what is kept and what may be lost when a majority of the directories is gone.
10. `node_state`: what the parts need of their node, and the options.

Skip `judge` at first. Where each concern stands:

- the logs part, find where: `sender.Sender.on_refused`, `sender.Progress.probe`
- send without waiting, inside a window: `sender.Sender.pump`, `sender.Progress.has_room`
- a message was lost: `sender.Sender.send_heartbeat`, whose answer shows the gap
- store what is new, cut off what conflicts: `follower.store`, `log.Log.truncate`
- acknowledge only what is on disk: `follower.match_on_disk`, `follower.PendingAck.due`
- what a follower needs is compacted away: `sender.Sender._resort_to_snapshot`
- send a snapshot: `sender.SnapshotSender.pump`
- receive one: `snapshot_transfer.SnapshotReceiver.on_chunk`, `snapshot_transfer.SnapshotReceiver.on_staged`
- the log takes half of its limit: `compaction.Compaction.is_due`, `compaction.Compaction.on_captured`
- apply what is committed: `compaction.apply_committed`
- a batch of reads: `read_rounds.ReadRounds.proceed`
- after a restart: `journal.RebuiltLog.move_base`, `journal.RebuiltLog.finish`
"""
