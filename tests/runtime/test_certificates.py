"""Files are loaded once for the clients of a process, and what is shared demands what it should."""

import ssl
from pathlib import Path

import pytest

from tests.runtime.certified import certify, make
from viewstamp.core.errors import ConfigurationError
from viewstamp.runtime import certificates
from viewstamp.runtime.certificates import Credentials
from viewstamp.runtime.config import TlsFiles
from viewstamp.runtime.system import wall_s


def test_clients_share_what_was_loaded_until_the_files_change(tmp_path: Path) -> None:
    made = make(tmp_path)
    files = TlsFiles(str(tmp_path / "ca.pem"))
    first, second = (Credentials(files, "client", is_server=False) for _ in range(2))
    assert first.context is second.context
    assert Credentials(files, "operator", is_server=False).context is not first.context
    certify(tmp_path, made.authority, renew=True)
    third = Credentials(files, "client", is_server=False)
    assert third.context is not first.context
    first.refresh()
    assert first.news.endswith("expires in 364 days")


def test_both_ends_demand_a_certificate_whatever_was_checked_with_them(tmp_path: Path) -> None:
    make(tmp_path)
    files = TlsFiles(str(tmp_path / "ca.pem"))
    for name, is_server in (("node-1", True), ("client", False), ("nobody", False)):
        credentials = Credentials(files, name, is_server=is_server)
        assert credentials.context.verify_mode is ssl.CERT_REQUIRED, name
    (tmp_path / "client.key").write_bytes((tmp_path / "operator.key").read_bytes())
    with pytest.raises(ConfigurationError, match="cannot be used"):
        Credentials(files, "client", is_server=False)


def test_what_is_shared_is_looked_at_again_when_it_has_expired(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path)
    files = TlsFiles(str(tmp_path / "ca.pem"))
    first = Credentials(files, "client", is_server=False)
    later = wall_s() + 366 * 86_400
    monkeypatch.setattr(certificates, "wall_s", lambda: later)
    second = Credentials(files, "client", is_server=False)
    assert second.context is not first.context
    assert "has expired" in second.warnings[0]
