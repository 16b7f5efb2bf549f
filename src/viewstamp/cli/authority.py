"""A CA of one cluster, and the certificates that it signs: what `viewstamp cert` and `init --tls` write.

Each certificate has one URI (`viewstamp://CLUSTER/node/3`), which is all that decides; host names in it are
for other programs. Keys are on P-256, which TLS signs with in a fifth of a millisecond.

Rules of this file: a key is written before its certificate, with mode 0600; each file is written beside and
then renamed; nothing that exists is replaced unless that is asked for.
"""

import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from viewstamp.core.errors import ConfigurationError
from viewstamp.link.credentials import uri_of
from viewstamp.runtime.system import wall_s
from viewstamp.storage.files import read_named

CA_DAYS: Final = 3650
LEAF_DAYS: Final = 365
_SKEW: Final = timedelta(minutes=5)
"""Clocks differ: a new certificate is valid from a moment ago."""
_FILE_BYTES_MAX: Final = 1 << 20


class Authority:
    """A CA with its key."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self.certificate = certificate
        self._key = key

    @classmethod
    def new(cls, cluster_id: str, *, days: int = CA_DAYS) -> "Authority":
        """Return a new CA, whose name no other one has."""
        key = ec.generate_private_key(ec.SECP256R1())
        serial = x509.random_serial_number()
        name = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "viewstamp"),
                x509.NameAttribute(NameOID.COMMON_NAME, f"CA of {cluster_id[:40]} {serial % (1 << 32):08x}"),
            ]
        )
        begins = _now() - _SKEW
        builder = (
            x509.CertificateBuilder(
                name, name, key.public_key(), serial, begins, begins + timedelta(days=days)
            )
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        return cls(builder.sign(key, hashes.SHA256()), key)

    @classmethod
    def load(cls, folder: Path) -> "Authority":
        """Return the newest CA of a folder.

        Raises:
            ConfigurationError: it is not there, or cannot be read.
        """
        text, secret = (read_named(folder / name, bytes_max=_FILE_BYTES_MAX) for name in ("ca.pem", "ca.key"))
        try:
            certificate = x509.load_pem_x509_certificates(text)[0]
            key = serialization.load_pem_private_key(secret, None)
        except (ValueError, TypeError) as error:
            raise ConfigurationError(f"the CA in {folder} cannot be read: {error}") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise ConfigurationError(
                f"{folder / 'ca.key'} is not the key of the first CA in {folder / 'ca.pem'}"
            )
        return cls(certificate, key)

    def save(self, folder: Path, older: bytes = b"") -> None:
        """Write `ca.key` and `ca.pem`; CAs that are still trusted stand behind the new one."""
        write_file(folder / "ca.key", _key_pem(self._key), secret=True, replace=bool(older))
        text = self.certificate.public_bytes(serialization.Encoding.PEM)
        write_file(folder / "ca.pem", text + older, replace=bool(older))

    def issue(
        self,
        cluster_id: str,
        principal: str,
        hosts: Sequence[str] = (),
        *,
        begins: datetime | None = None,
        days: float = LEAF_DAYS,
        is_server: bool,
        uris: Sequence[str] | None = None,
    ) -> tuple[bytes, bytes]:
        """Return (certificate, key) in PEM for a principal; `uris` replaces what names it, for tests."""
        key = ec.generate_private_key(ec.SECP256R1())
        start = begins or _now() - _SKEW
        names: list[x509.GeneralName] = [
            x509.UniformResourceIdentifier(uri)
            for uri in ([uri_of(cluster_id, principal)] if uris is None else uris)
        ]
        purposes = [
            ExtendedKeyUsageOID.CLIENT_AUTH,
            *([ExtendedKeyUsageOID.SERVER_AUTH] if is_server else []),
        ]
        builder = (
            x509.CertificateBuilder(
                self.certificate.subject,
                x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, principal[:64])]),
                key.public_key(),
                x509.random_serial_number(),
                start,
                start + timedelta(days=days),
            )
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(x509.SubjectAlternativeName([*names, *map(_host, hosts)]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
        )
        signed = builder.sign(self._key, hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.PEM), _key_pem(key)


def write_pair(path: Path, pair: tuple[bytes, bytes], *, replace: bool = False) -> None:
    """Write `PATH.key`, then `PATH.pem`; `ConfigurationError` where they exist and are not to be replaced."""
    certificate, key = pair
    write_file(path.with_name(f"{path.name}.key"), key, secret=True, replace=replace)
    write_file(path.with_name(f"{path.name}.pem"), certificate, replace=replace)


def write_file(path: Path, text: bytes, *, secret: bool = False, replace: bool = False) -> None:
    """Write a file, whole or not at all.

    Raises:
        ConfigurationError: it exists and is not to be replaced, or cannot be written.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(
            beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600 if secret else 0o644
        )
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            if replace:
                beside.replace(path)
            else:
                os.link(beside, path)
        finally:
            beside.unlink(missing_ok=True)
    except FileExistsError as error:
        raise ConfigurationError(f"{path} exists and is left as it is: give --renew to replace it") from error
    except OSError as error:
        raise ConfigurationError(f"cannot write {path}: {error.strerror}") from error


def read_certificates(path: Path) -> list[x509.Certificate]:
    """Return the certificates in a file, in order; `ConfigurationError` where there are none."""
    text = read_named(path, bytes_max=_FILE_BYTES_MAX)
    try:
        return x509.load_pem_x509_certificates(text)
    except ValueError as error:
        raise ConfigurationError(f"{path} holds no certificate: {error}") from error


def uris_of(certificate: x509.Certificate) -> list[str]:
    """Return the URIs among a certificate's names."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.UniformResourceIdentifier)


def _now() -> datetime:
    return datetime.fromtimestamp(int(wall_s()), UTC)


def _host(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
