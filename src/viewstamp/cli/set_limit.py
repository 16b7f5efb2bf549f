"""`viewstamp set`: change a limit of sessions on all members at one place of the log, while they run."""

from pathlib import Path
from typing import Final

from viewstamp.cli.flags import ClusterFile, Timeout
from viewstamp.cli.operate import direct, find_leader
from viewstamp.cli.target import CLUSTER_FILE, check_timeout, load_cluster
from viewstamp.core.errors import ConfigurationError
from viewstamp.core.events import SetLimit
from viewstamp.replica.options import SessionLimits

PREFIX: Final = "sessions."
_VALUE_MAX: Final = (1 << 63) - 1
"""That a message holds; which smaller ones fit, the replicas decide."""


def set_limit(
    option: str,
    value: int,
    /,
    *,
    cluster: ClusterFile = Path(CLUSTER_FILE),
    timeout: Timeout = 10.0,
) -> None:
    """Change an option of sessions, such as sessions.time_to_live_ms, on all members at once.

    The cluster file keeps the value that the log began with: leave it as it is.
    """
    name = option.removeprefix("replica.").removeprefix(PREFIX)
    if name not in SessionLimits.__struct_fields__:
        known = ", ".join(PREFIX + field for field in SessionLimits.__struct_fields__)
        raise ConfigurationError(f"{option[:80]!r} cannot be set so: choose one of {known}")
    if not 0 <= value <= _VALUE_MAX:
        raise ConfigurationError(f"{PREFIX}{name}: give 0 to {_VALUE_MAX}; nothing was changed")
    config = load_cluster(cluster)
    leader = find_leader(config, check_timeout(timeout))
    direct(config, leader, SetLimit(name, value), timeout)
    print(f"{PREFIX}{name} is {value} from now on")
