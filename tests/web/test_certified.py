"""HTTP over TLS on real sockets: verbs by the certificate of an operator, and by nobody else's."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvloop

from tests.runtime.certified import NAME, Certified, certified, certify, make, wrong
from tests.web.asgi import PROOF, SECRET
from viewstamp.cli.authority import Authority
from viewstamp.cli.serve import http_beside
from viewstamp.core.errors import ConfigurationError
from viewstamp.core.ids import NodeId
from viewstamp.runtime import certificates as loaded
from viewstamp.runtime.addresses import free_ports
from viewstamp.runtime.config import NodeConfig, TlsFiles
from viewstamp.runtime.system import wall_s
from viewstamp.web.admin import bearer
from viewstamp.web.app import make_app
from viewstamp.web.certified import HttpCertificates, either
from viewstamp.web.serving import listen, serving


class Port:
    """The HTTP port of node 1 of a cluster."""

    def __init__(self, made: Certified, address: tuple[str, int]) -> None:
        self.made = made
        self._address = address

    async def ask(
        self, target: str, files: TlsFiles | None, method: str = "POST", headers: dict[str, str] | None = None
    ) -> str:
        """Return status and body, or how the handshake ended."""
        return await asyncio.to_thread(self._ask, target, files, method, headers or {})

    def _ask(self, target: str, files: TlsFiles | None, method: str, headers: dict[str, str]) -> str:
        try:
            with self.open(files) as end:
                return self.say(end, target, method, headers)
        except OSError as error:
            return f"ended: {error}"

    def open(self, files: TlsFiles | None) -> ssl.SSLSocket:
        context = ssl.create_default_context(cafile=str(self.made.folder / "ca.pem"))
        context.check_hostname = False
        if files is not None and files.cert is not None:
            context.load_cert_chain(files.cert, files.key)
        return context.wrap_socket(socket.create_connection(self._address, timeout=20))

    def say(self, end: ssl.SSLSocket, target: str, method: str, headers: dict[str, str]) -> str:
        lines = [f"{method} {target} HTTP/1.1", "Host: x", "Content-Length: 0"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        end.sendall("\r\n".join([*lines, "", ""]).encode())
        answer = b""
        while not answer.partition(b"\r\n\r\n")[2].endswith((b"\n", b"ok")):
            if not (data := end.recv(1 << 16)):
                break
            answer += data
        head, _, body = answer.partition(b"\r\n\r\n")
        return f"{head.split(b' ')[1].decode() if head else 'ended'} {body.decode()}"


@asynccontextmanager
async def port_of(folder: Path) -> AsyncIterator[Port]:
    async with certified(folder) as made:
        await asyncio.to_thread(made.add)
        one = NodeId(1)
        certificates = HttpCertificates(made.cluster.tls, made.cluster, one)
        app = make_app(made.servers[one], proof=either(certificates.refusal, bearer(SECRET)))
        listener = listen(f"https:127.0.0.1:{free_ports(1)[0]}")
        async with serving(app, listener, certificates):
            yield Port(made, listener.getsockname())


def run(loop: Callable[[], Any], test: Any) -> None:
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(test)


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_the_certificate_of_an_operator_proves_a_verb_and_no_other_does(tmp_path: Path, loop: Any) -> None:
    async def ask() -> None:
        async with port_of(tmp_path) as port:
            made, verb = port.made, "/admin/snapshot"
            assert (await port.ask(verb, made.files("operator"))).startswith("200")
            for name in ("client", "node-1", "node-2"):
                answer = await port.ask(verb, made.files(name))
                assert answer.startswith("403"), name
                assert "not of an operator" in answer or "show the certificate of an operator" in answer
            for name, files in wrong(made).items():
                assert (await port.ask(verb, files)).startswith(("ended", "403")), name
            other = made.issue("spy", "operator/spy", cluster_id="other")
            assert "is of cluster 'other'" in await port.ask(verb, other)
            two = [f"viewstamp://{NAME}/{who}" for who in ("operator/a", "client/a")]
            assert (await port.ask(verb, made.issue("two", "x", uris=two))).startswith("403")
            assert (await port.ask(verb, None)).startswith("403")
            assert (await port.ask(verb, None, headers=PROOF)).startswith("200"), "the secret counts as well"
            for path in ("/livez", "/readyz", "/status", "/metrics"):
                assert (await port.ask(path, None, "GET")).startswith("200"), "probes have no certificate"

    run(loop, ask())


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_certificates_and_cas_are_replaced_while_connections_stand(tmp_path: Path, loop: Any) -> None:
    async def replace() -> None:
        async with port_of(tmp_path) as port:
            made = port.made
            operator = made.files("operator")
            standing = await asyncio.to_thread(port.open, operator)
            verb = "/admin/snapshot"

            async def stands() -> str:
                return await asyncio.to_thread(port.say, standing, verb, "POST", {})

            async def shown() -> object:
                end = await asyncio.to_thread(port.open, None)
                with end:
                    return (end.getpeercert() or {})["serialNumber"]

            assert (await stands()).startswith("200")
            before = await shown()
            newest = Authority.new(NAME)
            newest.save(tmp_path, (tmp_path / "ca.pem").read_bytes())
            certify(tmp_path, newest, renew=True)
            assert await shown() != before
            assert (await stands()).startswith("200"), "both CAs are trusted"
            assert (await port.ask(verb, operator)).startswith("200")
            newest.save(tmp_path, b"\n")
            assert "no longer trusted" in await stands()
            assert (await port.ask(verb, operator)).startswith("200")
            standing.close()

    run(loop, replace())


async def test_a_certificate_that_has_expired_meanwhile_proves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with port_of(tmp_path) as port:
        standing = await asyncio.to_thread(port.open, port.made.files("operator"))
        later = wall_s() + 366 * 86_400
        monkeypatch.setattr(loaded, "wall_s", lambda: later)
        answer = await asyncio.to_thread(port.say, standing, "/admin/snapshot", "POST", {})
        assert "has expired" in answer
        standing.close()


def test_a_port_without_certificates_or_in_clear_is_refused(tmp_path: Path) -> None:
    made = make(tmp_path)
    plain = msgspec.structs.replace(made.cluster, tls=None)
    with pytest.raises(ConfigurationError, match="needs \\[tls\\]"):
        http_beside("https:127.0.0.1:7080", None, plain, NodeId(1), NodeConfig())
    secret = tmp_path / "operators"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    with pytest.raises(ConfigurationError, match="in clear; nothing was started"):
        http_beside("0.0.0.0:7080", secret, plain, NodeId(1), NodeConfig())
