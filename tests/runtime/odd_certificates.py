"""Certificates that no command of viewstamp makes: other keys, names, purposes and chains."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from viewstamp.runtime.config import TlsFiles
from viewstamp.runtime.system import wall_s

CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
BOTH = (CLIENT, SERVER)


class Signer:
    """A CA, an intermediate, or a leaf that signs although it should not."""

    def __init__(
        self, certificate: x509.Certificate, key: Any, chain: Sequence[x509.Certificate] = ()
    ) -> None:
        self.certificate = certificate
        self.key = key
        self.chain = chain
        """What leads from it to the CA, without the CA."""

    @classmethod
    def root(cls, name: str) -> "Signer":
        return issue(None, common=name, is_ca=True, purposes=None)

    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)


def issue(
    signer: Signer | None,
    uris: Sequence[str] = (),
    *,
    common: str = "x",
    dns: Sequence[str] = (),
    is_ca: bool | None = False,
    purposes: Sequence[x509.ObjectIdentifier] | None = BOTH,
    key: Any = None,
    digest: Any = hashes.SHA256(),  # noqa: B008  a value
    begins_days: float = -1.0,
    days: float = 30.0,
) -> Signer:
    """Make a certificate. `is_ca` None and `purposes` None: without that extension."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])
    begins = datetime.fromtimestamp(int(wall_s()), UTC) + timedelta(days=begins_days)
    issuer = name if signer is None else signer.certificate.subject
    builder = x509.CertificateBuilder(
        issuer, name, key.public_key(), x509.random_serial_number(), begins, begins + timedelta(days=days)
    )
    if is_ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
    if purposes is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    names = [*map(x509.UniformResourceIdentifier, uris), *map(x509.DNSName, dns)]
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    signing = key if signer is None else signer.key
    identifiers = (
        x509.SubjectKeyIdentifier.from_public_key(key.public_key()),
        x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()),
    )
    for identifier in identifiers:
        builder = builder.add_extension(identifier, critical=False)
    chosen = None if isinstance(signing, ed25519.Ed25519PrivateKey) else digest
    certificate = builder.sign(signing, chosen)
    leads = () if signer is None else (certificate, *signer.chain)
    return Signer(certificate, key, leads)


def write(folder: Path, name: str, made: Signer, *, with_chain: bool = True) -> TlsFiles:
    """Write certificate and key, and return what shows them."""
    shown = made.chain if with_chain else made.chain[:1]
    text = b"".join(each.public_bytes(serialization.Encoding.PEM) for each in shown)
    (folder / f"{name}.pem").write_bytes(text)
    (folder / f"{name}.key").write_bytes(
        made.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return TlsFiles(str(folder / "ca.pem"), str(folder / f"{name}.pem"), str(folder / f"{name}.key"))


def small_rsa() -> Any:
    return rsa.generate_private_key(65537, 1024)
