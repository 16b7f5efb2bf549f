"""The client of a replicated machine as a core without input or output: calls, routing, its session.

Read in this order:

1. `calls`: the open calls, their sequence numbers, deadlines and messages;
2. `client`: `step`, where all events come in;
3. `session`, `routing`: the promise of exactly-once, and the server that is asked next;
4. `failures`, `admin`: how a call ends without a result, and what operators ask of one node.

The way of a write, function by function:

- the application calls: `client.ClientCore.invoke`, `calls.Calls.add`;
- at the end of the turn the core is woken: `client.ClientCore._woke`, `calls.Calls.expired`,
  `calls.Calls.silent_flights`;
- a server is chosen, and a session opened where there is none: `client.ClientCore._flush`,
  `routing.Router.choose`, `client.ClientCore._send_commands`, `session.ClientSession.ask`;
- the queued calls are numbered and go out in one message: `client.ClientCore._submit`, `calls.Calls.launch`,
  `calls.Calls.acknowledged`, `session.ClientSession.used`;
- the results come: `client.ClientCore.step`, `client.ClientCore._received`, `client.ClientCore._results`,
  `calls.Calls.answered`;
- or a redirect: `client.ClientCore._redirected`, `client.ClientCore._may_repeat`, `calls.Calls.requeue`,
  `routing.Router.redirected`;
- or nothing: `client.ClientCore._give_up`, `client.ClientCore._not_answered`, `routing.Router.failed`,
  and at its deadline `failures.failed`.
"""
