"""`viewstamp serve`: run one member."""

import logging
import os
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from cyclopts import Parameter

from viewstamp.cli.json_log import JsonFormatter, Place, RateLimit
from viewstamp.cli.output import printable
from viewstamp.cli.target import CLUSTER_FILE, check_member, load_cluster, look_here
from viewstamp.core.errors import ConfigurationError
from viewstamp.core.ids import NodeId
from viewstamp.machine.state_machine import StateMachine
from viewstamp.runtime import joining
from viewstamp.runtime.addresses import format_address, parse_address
from viewstamp.runtime.config import ClusterConfig, NodeConfig
from viewstamp.runtime.joining import Joined, keep
from viewstamp.runtime.server import Beside, Server, serve_forever
from viewstamp.runtime.supervisor import supervised
from viewstamp.runtime.system import Loop
from viewstamp.storage.files import read_named

STOCK_MACHINE: Final = "viewstamp.services.stock:StockService"
_SETTINGS_BYTES_MAX: Final = 1 << 20

_MachineName = Annotated[
    str,
    Parameter(
        group="Parameters",
        help="The state machine, as MODULE:CLASS; else the stock service.",
        show_default=False,
    ),
]
"""Among the flags, so that the help fits a screen."""


def serve(
    machine: _MachineName = STOCK_MACHINE,
    /,
    *,
    node: Annotated[int | None, Parameter(help="Which member this is; may be left out with --join.")] = None,
    data: Annotated[Path, Parameter(help="Data directory of this node alone; made if missing.")],
    cluster: Annotated[Path, Parameter(help="Cluster file.")] = Path(CLUSTER_FILE),
    join: Annotated[
        str | None, Parameter(help="HOST:PORT of a member whose cluster this node is to join.")
    ] = None,
    listen: Annotated[str | None, Parameter(help="HOST:PORT of this node, with --join.")] = None,
    listen_host: Annotated[str | None, Parameter(help="Listen here, not on the member's host.")] = None,
    loop: Annotated[Loop | None, Parameter(help="Event loop; auto if not given.", show=False)] = None,
    paranoid: Annotated[bool, Parameter(negative="", help="Stop where an invariant breaks.")] = False,
    insecure: Annotated[bool, Parameter(negative="", help="Start unprotected on a network.")] = False,
    settings: Annotated[Path | None, Parameter(help="TOML file with this node's limits.")] = None,
    accept_class: Annotated[
        bool, Parameter(negative="", help="The class changed on purpose, everywhere.")
    ] = False,
    http: Annotated[
        str | None, Parameter(help="Health, metrics, status by HTTP: [https:]HOST:PORT or unix:PATH.")
    ] = None,
    http_secret: Annotated[
        Path | None, Parameter(help="File with the operators' secret for verbs over HTTP.", show=False)
    ] = None,
    etcd: Annotated[str | None, Parameter(help="HOST:PORT of etcd's JSON gateway.")] = None,
    chaos: Annotated[Path | None, Parameter(show=False)] = None,
    log_format: Annotated[Literal["text", "json"], Parameter(help="Lines of the log.")] = "text",
    verbose: Annotated[bool, Parameter(negative="", help="Log more.")] = False,
) -> int:
    """Run one member of a cluster until SIGTERM, which hands leadership over first.

    MODULE is looked for in the current directory too, after what is installed. Prints one line when it
    listens; the log goes to standard error.
    """
    log = configure_logging(verbose=verbose, log_format=log_format)
    joined = None if join is None else _join(join, data, node, listen, cluster)
    config, member = _listed(cluster, node) if joined is None else (joined.cluster, NodeId(joined.node))
    config.check()
    machine_class = load_machine(machine)
    warn_of(machine_class)
    own = load_settings(
        settings,
        data=str(data),
        listen_host=listen_host,
        loop=loop,
        paranoid=paranoid or None,
        insecure=insecure or None,
        advertise=None if joined is None else format_address(config.addresses[member]),
    )
    web = [http_beside(http, http_secret, config, member, own)] if http else []
    web += [etcd_beside(etcd, config, member, own)] if etcd else []
    return serve_forever(
        config, member, machine_class, own,
        started=partial(_announce, cluster, data, joined),
        beside=beside_of(log, web, chaos), accept_class=accept_class, joining=joined is not None,
    )  # fmt: skip


def _listed(cluster: Path, node: int | None) -> tuple[ClusterConfig, NodeId]:
    """Return the cluster of a file, and which of its members this is."""
    config = load_cluster(cluster)
    if node is None:
        raise ConfigurationError("say which member this is with --node, or name a cluster with --join")
    return config, check_member(config, node)


def _announce(cluster: Path, data: Path, joined: Joined | None, server: Server) -> None:
    if joined is None or os.path.lexists(cluster):
        server.reread = partial(load_cluster, cluster)
    if joined is not None:
        keep(data, joined)
    announce(server)


def beside_of(log: logging.Formatter, web: Iterable[Beside], chaos: Path | None = None) -> Beside:
    """Return what runs beside a node: HTTP, signs for a supervisor, lines of its log.

    With `chaos` it obeys the orders in that file.
    """

    @asynccontextmanager
    async def beside(server: Server) -> AsyncIterator[None]:
        if isinstance(log, JsonFormatter):
            log.place = lambda: _place_of(server)
        async with AsyncExitStack() as stack:
            for each in web:
                await stack.enter_async_context(each(server))
            if chaos is not None:
                from viewstamp.runtime.chaos_orders import obeying

                await stack.enter_async_context(obeying(server, chaos))
            await stack.enter_async_context(supervised(os.environ))
            yield

    return beside


def _place_of(server: Server) -> Place:
    if not server.running:
        return Place(server.cluster.cluster_id, server.node)
    status = server.status()
    return Place(server.cluster.cluster_id, server.node, status.view, status.applied)


def http_beside(
    where: str, secret_file: Path | None, cluster: ClusterConfig, node: NodeId, own: NodeConfig
) -> Beside:
    """Return what serves HTTP beside a node; the port is bound, and the files are read, before this returns.

    Raises:
        ConfigurationError: the port or a file cannot be used, the operators' secret would cross a network
            in clear, or the libraries are not installed.
    """
    try:
        from viewstamp.web.admin import bearer, read_secret
        from viewstamp.web.app import make_app
        from viewstamp.web.certified import HttpCertificates, either
        from viewstamp.web.serving import HTTPS, listen, serving, tells_the_network
    except ModuleNotFoundError as error:
        raise _extra_missing("--http", error) from None
    if secret_file is not None and tells_the_network(where) and not own.insecure:
        raise ConfigurationError(
            f"--http {where} can be reached from other machines, and the operators' secret would cross the "
            "network in clear; nothing was started: give --http https:HOST:PORT, or --insecure"
        )
    proof = bearer(None if secret_file is None else read_secret(secret_file))
    certificates = None
    if where.startswith(HTTPS):
        certificates = HttpCertificates(own.tls or cluster.tls, cluster, node)
        proof = either(certificates.refusal, proof)
    listener = listen(where)
    return lambda server: serving(make_app(server, proof=proof), listener, certificates)


def etcd_beside(where: str, cluster: ClusterConfig, node: NodeId, own: NodeConfig) -> Beside:
    """Return what serves etcd's gateway beside a node; the port is bound before this returns.

    Raises:
        ConfigurationError: the port cannot be used or is not protected, or the libraries are not installed.
    """
    try:
        from viewstamp.web.etcd.serving import gateway_beside
    except ModuleNotFoundError as error:
        raise _extra_missing("--etcd", error) from None
    return gateway_beside(where, cluster, node, own)


def _extra_missing(option: str, error: ModuleNotFoundError) -> ConfigurationError:
    return ConfigurationError(
        f"{option} needs {error.name}: install the extra, as in `pip install 'viewstamp[http]'`"
    )


def _join(seed: str, data: Path, node: int | None, listen: str | None, cluster: Path) -> Joined:
    own = None if listen is None else parse_address(listen)
    is_named = os.path.lexists(cluster) or cluster != Path(CLUSTER_FILE)
    listed = load_cluster(cluster) if is_named else None
    return joining.join(parse_address(seed), data, node=node, listen=own, listed=listed)


def warn_of(machine: type[StateMachine]) -> None:
    """Log what the lint finds in a class of the user's; it serves all the same."""
    if machine.__module__.startswith("viewstamp."):
        return
    from viewstamp.machine.lint.lint import lint_machine

    for finding in lint_machine(machine):
        logging.getLogger("viewstamp").warning("%s", finding)


def announce(server: Server) -> None:
    """Say that the server listens; the process that started it may wait for this line."""
    print(
        f"node {server.node} listens on {format_address(server.cluster.addresses[server.node])}", flush=True
    )


def load_settings(path: Path | None, **flags: object) -> NodeConfig:
    """Return the node's configuration: what the file says, and over it the flags that were given.

    Raises:
        ConfigurationError: the file cannot be read, or a setting cannot be used.
    """
    try:
        text = b"" if path is None else read_named(path, bytes_max=_SETTINGS_BYTES_MAX)
        values = msgspec.toml.decode(text, type=dict[str, Any])
        values.update((name, value) for name, value in flags.items() if value is not None)
        return msgspec.convert(values, NodeConfig)
    except (msgspec.MsgspecError, ValueError, RecursionError, ConfigurationError) as error:
        raise ConfigurationError(f"{path or 'settings'}: {error}") from error


def load_machine(name: str) -> type[StateMachine]:
    """Return the class at MODULE:CLASS.

    Raises:
        ConfigurationError: there is none, or it is not a state machine.
    """
    return load_machine_or(name, StateMachine)


def load_machine_or(name: str, *others: type) -> type[Any]:
    """Return the class at MODULE:CLASS, which is a state machine or derived from one of the others.

    Raises:
        ConfigurationError: there is none, or it is neither.
    """
    kinds = (StateMachine, *others)
    module_name, colon, class_name = name.partition(":")
    if not colon or not module_name or not class_name:
        raise ConfigurationError(f"{name!r}: write the machine as MODULE:CLASS, such as app:Counter")
    look_here()
    try:
        module = import_module(module_name)
    except Exception as error:  # the module is the user's, and so is whatever its first lines raise
        what = "" if isinstance(error, ImportError) else f"{type(error).__name__}: "
        raise ConfigurationError(f"cannot import {module_name!r}: {what}{error}") from error
    found = vars(module).get(class_name)
    if not (isinstance(found, type) and issubclass(found, kinds)):
        raise ConfigurationError(
            f"{class_name!r} of {module_name!r} ({getattr(module, '__file__', None) or 'built in'}) is not a "
            "subclass of viewstamp.StateMachine"
        )
    return found


class _OneLine(logging.Formatter):
    """One event, one line, whatever a peer managed to get into it. A bug's traceback keeps its lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  the standard library's name
        record.message = printable(record.message)
        return super().formatMessage(record)


def configure_logging(*, verbose: bool, log_format: str = "text") -> logging.Formatter:
    """Log to standard error, and return what makes the lines. Only a program does this, never the library."""
    handler = logging.StreamHandler()
    formatter: logging.Formatter = _OneLine("%(asctime)s %(levelname)s %(message)s")
    if log_format == "json":
        formatter = JsonFormatter()
        handler.addFilter(RateLimit())
    handler.setFormatter(formatter)
    logger = logging.getLogger("viewstamp")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)
    return formatter
