"""Recipes for processes that work together: state machines whose grants live as long as a session.

Read them in this order: `claims` (what most share), `semaphores`, `rwlocks`, `elections`, `rounds` and its
`barriers` and `countdowns`, then `queues` with `queue_state`, then `registry`, `counters`, `rates`.
`keeper` is the client's side of all claims, without input or output; `claim_wire` says how its calls travel.
"""
