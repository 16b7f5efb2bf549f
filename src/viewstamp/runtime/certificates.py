"""The certificate, the key and the CAs of one process: loaded, checked, and loaded again when they change.

Rules of this file:

- New files are used only after a handshake of them with themselves, in memory: key and certificate belong
  together, a CA of the file has signed it, it is valid now, and it still names what it named before.
- On any error what was loaded before stays, and the reason is said once.
- Only connections that begin later use what is new. Those that stand are ended at the end of their
  certificate, and when the CA that signed it is no longer in the file (`ends`).
- To load and check files takes as long as two handshakes: clients of one process that use the same files
  share what was loaded, until the files change.
"""

import ssl
from pathlib import Path
from typing import Final

import msgspec

from viewstamp.core.errors import ConfigurationError
from viewstamp.link.credentials import Certified
from viewstamp.runtime.config import TlsFiles
from viewstamp.runtime.system import wall_s
from viewstamp.runtime.tls import PeerCertificate, TlsStream, peer_certificate
from viewstamp.storage.files import read_named

WARN_S: Final = 14 * 86_400
"""How long before its end a certificate is warned of."""
FILE_BYTES_MAX: Final = 1 << 20
"""Of a certificate, a key, or the certificates of the authorities."""
_FLIGHTS_MAX: Final = 10
_SHARED_MAX: Final = 16
"""Sets of files that are kept loaded for the clients that come next."""

Signature = tuple[tuple[int, int, int], ...]


class _Loaded(msgspec.Struct, frozen=True):
    """What is in use."""

    accepting: ssl.SSLContext
    dialling: ssl.SSLContext
    own: PeerCertificate | None
    """None: this process shows no certificate."""
    authorities: frozenset[bytes]
    """The CAs in the file (DER)."""


_SHARED: Final[dict[tuple[object, ...], _Loaded]] = {}
"""What clients of this process have loaded, by files and their signature."""


class Credentials:
    """What this process shows, and whom it trusts."""

    def __init__(self, files: TlsFiles, name: str, *, is_server: bool, demands: bool = True) -> None:
        """`name` is that of the files beside the CA's, where the configuration names none.

        A client for which there are none shows no certificate, and needs a token. A server that
        does not `demand` a certificate of those that connect lets them say hello without one.

        Raises:
            ConfigurationError: a file cannot be used; one line.
        """
        whole = files.of(name)
        self._ca, self._certificate, self._key = Path(whole.ca), Path(str(whole.cert)), Path(str(whole.key))
        self._is_server = is_server
        self._demands = demands
        shows = self._certificate.exists() if files.cert is None else bool(files.cert)
        self._has_own = is_server or shows
        self._signature = self._sign()
        self._loaded = self._load() if is_server else self._shared()
        self.news = ""
        """Whether the files that were read last are in use, for the log; the owner empties it."""
        self.trouble = ""
        """Why the files as they are now cannot be used; empty where they are in use."""

    @property
    def own(self) -> Certified | None:
        """Whom this process's certificate names; None: it shows none."""
        own = self._loaded.own
        return own.certified if own is not None and isinstance(own.certified, Certified) else None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What an operator should know, a line each."""
        own = self._loaded.own
        left_s = WARN_S if own is None else own.not_after_s - wall_s()
        lines = [f"the certificate {self._certificate} {_left(left_s)}"] if left_s < WARN_S else []
        return (*lines, self.trouble) if self.trouble else tuple(lines)

    @property
    def expires_at_s(self) -> int:
        """When this process's certificate expires, in seconds since 1970; 0: it shows none."""
        own = self._loaded.own
        return 0 if own is None else int(own.not_after_s)

    def accept(self) -> TlsStream:
        """Return the TLS of a connection that another end opened."""
        return TlsStream(self._loaded.accepting, server_side=True)

    def dial(self) -> TlsStream:
        """Return the TLS of a connection that this end opens."""
        self.refresh()
        return TlsStream(self._loaded.dialling, server_side=False)

    @property
    def context(self) -> ssl.SSLContext:
        """For connections that this end opens once, to ask a question."""
        return self._loaded.dialling

    @property
    def accepting(self) -> ssl.SSLContext:
        """For connections that the standard library accepts."""
        return self._loaded.accepting

    def refresh(self, *, force: bool = False) -> None:
        """Load the files again if they have changed, and say in `news` what happened."""
        signature = self._sign()
        if signature == self._signature and not force:
            return
        self._signature = signature
        before = self._loaded
        why = ""
        try:
            loaded = self._load()
        except ConfigurationError as error:
            why, loaded = str(error), before
        if _named(loaded) != _named(before):
            why = f"{self._certificate} names another one than before"
        if why:
            self.news = self.trouble = f"new certificate files are not used, the old ones are: {why}"
            return
        self._loaded, self.trouble = loaded, ""
        left = "" if loaded.own is None else _left(loaded.own.not_after_s - wall_s())
        self.news = f"{self._certificate} and {self._ca} are loaded, and the certificate {left}"

    def ends(self, peer: PeerCertificate) -> str | None:
        """Return why a connection with this end must not go on; None: it may."""
        if peer.not_after_s <= wall_s():
            return "its certificate has expired"
        if peer.authority not in self._loaded.authorities:
            return "the CA of its certificate is no longer trusted"
        return None

    def _sign(self) -> Signature:
        """Return what differs when a file is replaced or written."""
        found = []
        for path in (self._ca, self._certificate, self._key):
            try:
                known = path.stat()
                found.append((known.st_mtime_ns, known.st_size, known.st_ino))
            except OSError:
                found.append((0, 0, 0))
        return tuple(found)

    def _shared(self) -> _Loaded:
        """Return what another client of this process has loaded from the same files, or load them."""
        key = (self._ca, self._certificate, self._key, self._has_own, self._signature)
        known = _SHARED.get(key)
        if known is None or (known.own is not None and known.own.not_after_s <= wall_s()):
            known = self._load()
            if len(_SHARED) >= _SHARED_MAX:
                _SHARED.clear()
            _SHARED[key] = known
        return known

    def _load(self) -> _Loaded:
        files = (self._certificate, self._key, self._ca) if self._has_own else (self._ca,)
        for file in files:
            read_named(file, bytes_max=FILE_BYTES_MAX)  # ssl would wait for the writer of a named pipe
        try:
            accepting, dialling = self._context(server_side=True), self._context(server_side=False)
            authorities = frozenset(dialling.get_ca_certs(binary_form=True))
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise ConfigurationError(
                f"{self._certificate}, {self._key} or {self._ca} cannot be used: {_reason(error)}"
            ) from error
        if not self._has_own:
            return _Loaded(accepting, dialling, None, authorities)
        dialling.verify_mode = ssl.CERT_REQUIRED if self._is_server else ssl.CERT_NONE
        try:  # a client's certificate is not good for a server: as one it is not looked at here
            own = _own_certificate(accepting, dialling)
        finally:
            dialling.verify_mode = ssl.CERT_REQUIRED
        if isinstance(own, str):
            raise ConfigurationError(f"{self._certificate}: {own}")
        if isinstance(own.certified, str):
            raise ConfigurationError(f"{self._certificate}: {own.certified}")
        return _Loaded(accepting, dialling, own, authorities)

    def _context(self, *, server_side: bool) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False  # names from the DNS decide nothing
        context.verify_mode = ssl.CERT_REQUIRED
        if server_side and not self._demands:
            context.verify_mode = ssl.CERT_OPTIONAL
        if server_side:
            context.num_tickets = 0  # no connection is resumed: each one shows its certificate
        if self._has_own:
            context.load_cert_chain(self._certificate, self._key, password=_no_password)
        context.load_verify_locations(self._ca)
        return context


def _own_certificate(accepting: ssl.SSLContext, dialling: ssl.SSLContext) -> PeerCertificate | str:
    """Let the certificate shake hands with itself; return what it says, or why it cannot be used."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = dialling.wrap_bio(incoming, outgoing, server_side=False)
    other = accepting.wrap_bio(outgoing, incoming, server_side=True)
    done: set[ssl.SSLObject] = set()
    for _ in range(_FLIGHTS_MAX):
        for end in (one, other):
            try:
                end.do_handshake()
                done.add(end)
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError as error:
                return _reason(error)
        if len(done) == 2:
            return peer_certificate(other) or "it was not shown"
    return "it did not shake hands with itself"


def _named(loaded: _Loaded) -> Certified | str | None:
    return None if loaded.own is None else loaded.own.certified


def _no_password() -> str:
    return ""


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return str(error.reason or error).replace("_", " ").lower()
    return getattr(error, "strerror", None) or str(error)


def _left(seconds: float) -> str:
    if seconds <= 0:
        return "has expired"
    days = int(seconds // 86_400)
    return f"expires in {days} days" if days else f"expires in {int(seconds // 3600)} hours"
