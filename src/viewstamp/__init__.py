"""Write an ordinary deterministic class; run it on several machines as one object that does not fail."""

from viewstamp.replica.machine import Context, StateMachine, command, compose, query

__all__ = ["Context", "StateMachine", "command", "compose", "query"]
