"""Primary-backup of CS6650's third assignment, unfenced: the server that is written to becomes primary.

Reading order: 1. the messages 2. `peers` (what a primary knows of each other server) 3. `state` (the
assignment's variables) 4. `core` (all rules). Skip `oracle` at first.

Where each rule of the assignment stands:

- 2.2, variables `last_index`, `committed_index`, `primary_id`, `factory_id`: `state.CourseState`
- 2.2, step 1, a server receives an order: `core.CourseCore._propose`
- 2.2, step 2, it becomes primary: `core.CourseCore._become_primary`
- 2.2, step 3, it appends the operation to its log: `core.CourseCore._append`
- 2.2, step 4, one replication request after another: `core.CourseCore._replicate`
- 2.2, step 4b, the backup writes, applies and responds: `core.CourseCore._on_replicate`
- 2.2, step 5, commit when every live backup has the entry: `core.CourseCore._replicate`
- 2.6, a new primary commits its whole log: `core.CourseCore._end_takeover`
- 2.6, backups stay one entry behind: `core.CourseCore._on_replicate`
- 3.1, a backup fails: `core.CourseCore._on_peer_down`, `core.CourseCore._give_up_silent`
- 3.1, the primary fails: `core.CourseCore._on_peer_down`
- 3.2, a repaired server receives the log entry by entry: `core.CourseCore._bring_up`
"""
