"""The commands by name. Each lives in its own file and is imported when it is called, so that all start fast.

Settings come from flags, then from `VIEWSTAMP_<FLAG>` in the environment (`VIEWSTAMP_CLUSTER=prod.toml`).
"""

import os
import sys
from collections.abc import Sequence
from typing import Final

from viewstamp.cli import failures, fast_path

COMMANDS: Final = {
    "init": ("viewstamp.cli.init:init", "Write a cluster file: who the members are."),
    "serve": ("viewstamp.cli.serve:serve", "Run one member of a cluster."),
    "kv get": ("viewstamp.cli.kv:get", "Print the value of a key, and its version."),
    "kv put": ("viewstamp.cli.kv:put", "Write a value."),
    "kv delete": ("viewstamp.cli.kv:delete", "Delete a key."),
    "kv range": ("viewstamp.cli.kv:list_range", "Print keys with their versions and values, in order."),
    "kv watch": ("viewstamp.cli.watch:watch", "Print what changes, as long as it runs."),
    "kv history": ("viewstamp.cli.watch:history", "Print the changes of a key that are kept."),
    "kv txn": ("viewstamp.cli.txn:txn", "Run a transaction out of JSON."),
    "kv lease": ("viewstamp.cli.lease:lease", "Grant a lease, keep it alive, show or revoke it."),
    "lock": ("viewstamp.cli.lock:lock", "Run a command under a lock."),
    "locks": ("viewstamp.cli.lock:list_locks", "Show which locks are held, and by whom."),
    "elect": ("viewstamp.cli.elect:elect", "Run a command once elected; when it ends another is."),
    "semaphore": ("viewstamp.cli.elect:semaphore", "Run a command while permits last."),
    "queue put": ("viewstamp.cli.queue:put", "Put an item into a queue."),
    "queue work": ("viewstamp.cli.queue:work", "Run a command for each item of a queue."),
    "queue list": ("viewstamp.cli.queue:list_items", "Show the items of a queue, and dead letters."),
    "fs mkfs": ("viewstamp.cli.fs:mkfs", "Make an empty file system in a cluster."),
    "fs mount": ("viewstamp.cli.fs:mount", "Mount the file system of a cluster."),
    "fs fsck": ("viewstamp.cli.fs:fsck", "Check that names, links and totals fit together."),
    "fs stat": ("viewstamp.cli.fs:stat", "Show how full the file system is."),
    "doctor": (
        "viewstamp.cli.doctor:doctor",
        "Look at what breaks clusters; compare states.",
    ),
    "set": ("viewstamp.cli.set_limit:set_limit", "Change a limit of sessions while the cluster runs."),
    "status": ("viewstamp.cli.status:status", "Show every node: role, view, positions, lag."),
    "transfer": ("viewstamp.cli.operate:transfer", "Hand leadership to another node."),
    "upgrade status": (
        "viewstamp.cli.upgrade:status",
        "Show which versions are in force.",
    ),
    "upgrade check": ("viewstamp.cli.upgrade:check", "Say whether a class may be deployed."),
    "upgrade finalize": ("viewstamp.cli.upgrade:finalize", "Raise them to what every member can do."),
    "snapshot": ("viewstamp.cli.operate:snapshot", "Take a snapshot now, and shorten the log."),
    "token key": ("viewstamp.cli.token:key", "Make a key that signs tokens."),
    "token issue": ("viewstamp.cli.token:issue_one", "Print a token for a client."),
    "token show": ("viewstamp.cli.token:show", "Print whose token it is, and until when."),
    "audit": ("viewstamp.cli.audit:audit", "Print who called what at which viewstamp, out of the log."),
    "member list": ("viewstamp.cli.member:list_members", "Show who takes part, and where each is found."),
    "member add": ("viewstamp.cli.member:add", "Add a node that waits to join."),
    "member promote": ("viewstamp.cli.member:promote", "Let a learner vote when it keeps up."),
    "member remove": ("viewstamp.cli.member:remove", "Remove nodes; a leader hands over first."),
    "member replace": ("viewstamp.cli.member:replace", "Let waiting nodes take the places of members."),
    "member move": ("viewstamp.cli.member:move", "Tell the nodes where a member is found."),
    "recover plan": ("viewstamp.cli.recover:plan", "Say what may be lost when a majority is lost for good."),
    "recover apply": ("viewstamp.cli.recover:apply", "Do to one directory what such a plan says."),
    "journal dump": ("viewstamp.cli.journal:dump", "Print what a data directory holds, in order."),
    "journal show": ("viewstamp.cli.journal_skip:show", "Print one entry of the log in a data directory."),
    "journal skip": ("viewstamp.cli.journal_skip:skip", "Give up an entry that no member can execute."),
    "backup take": ("viewstamp.cli.backup:backup", "Back up a running cluster into a file or directory."),
    "backup list": ("viewstamp.cli.backup:list_backups", "Show the backups in a directory."),
    "backup verify": ("viewstamp.cli.backup:verify_backup", "Prove that a backup, and today's code, fit."),
    "restore": ("viewstamp.cli.restore:restore", "Make a new cluster out of a backup."),
    "replay": ("viewstamp.cli.replay:replay", "Execute an old log with new code, and compare."),
    "log export": ("viewstamp.cli.log:export", "Write the committed entries as a stream."),
    "log follow": ("viewstamp.cli.log:follow", "Write the committed entries as they come."),
    "bench": ("viewstamp.cli.bench:bench", "Load a cluster, measure, record what happened."),
    "check": ("viewstamp.cli.check:check", "Judge whether a recorded history is linearizable."),
    "lint": ("viewstamp.cli.lint:lint", "Find what in a class makes its replicas differ."),
    "sim": ("viewstamp.cli.sim:sim", "Run a simulated cluster through disasters."),
    "cert init": ("viewstamp.cli.cert:init", "Make the CA of a cluster."),
    "cert node": ("viewstamp.cli.cert:node", "Make the certificate of a member."),
    "cert client": ("viewstamp.cli.cert:client", "Make the certificate of a client or an operator."),
    "cert show": ("viewstamp.cli.cert:show", "Say whom certificates name, and how long they are valid."),
    "chaos": ("viewstamp.cli.chaos:chaos", "Disturb the servers of a staging cluster, and judge."),
    "demo": ("viewstamp.cli.demo:demo", "See three servers survive the death of their leader."),
}
"""Name: (where it is, what it does). To add a command, add its line."""

MAIN: Final = frozenset(
    {
        "init",
        "serve",
        "kv",
        "lock",
        "status",
        "transfer",
        "snapshot",
        "check",
        "sim",
        "demo",
    }
)
"""First words of the commands that the overview explains; it names the others, so that it fits a screen."""

VERDICTS: Final = frozenset({"audit", "bench", "check", "demo", "doctor", "lint", "sim", "status"})
"""Commands whose exit code is what they found out: it stays when nobody reads their output to the end."""

GROUPS: Final = {
    "cert": "Certificates of nodes, clients and operators.",
    "kv": "Read and write the stock key/value service.",
    "fs": "A file system in a cluster, as a directory of this machine.",
    "token": "Let clients prove their names without certificates.",
    "member": "Change who takes part, while the cluster runs.",
    "upgrade": "Change the program and the class while the cluster runs.",
    "recover": "Go on after a majority was lost for good.",
    "backup": "Back up a running cluster, and look at backups.",
    "queue": "Put items into queues, work on them, list them.",
    "log": "Read the committed log of a running cluster.",
    "journal": "Look into a data directory without a server.",
}
"""First words of the commands that have two."""

IMPLIED: Final = {"backup": "take"}
"""The second word of a command where it is left out: `viewstamp backup TARGET`."""


def run(arguments: Sequence[str]) -> int:
    """Carry out one command and return its exit code. Expected errors become one line on standard error."""
    if arguments and arguments[0] in VERDICTS:
        failures.go_on_without_readers()
    try:
        code = _call(list(arguments))
        sys.stdout.flush()
    except KeyboardInterrupt:
        return failures.INTERRUPTED
    except BrokenPipeError:
        failures.give_up_output()
        return failures.DONE
    except Exception as error:
        expected = failures.code_of(error)
        if expected is None:
            raise
        failures.complain(str(error) or type(error).__name__)
        return expected
    return code


def _call(arguments: list[str]) -> int:
    plain = fast_path.understand(arguments, os.environ, COMMANDS)
    if plain is not None:
        function, positional, named = plain
        result = function(*positional, **named)
        return result if isinstance(result, int) else failures.DONE
    try:
        from viewstamp.cli import full_parser
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("viewstamp"):
            raise
        failures.complain(
            f"{error.name} is not installed; nothing was done. Install it: pip install 'viewstamp[cli]'"
        )
        return failures.CONFIGURATION
    return full_parser.call(arguments)
