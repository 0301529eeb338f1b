"""A self-signed certificate for a page in a laboratory's network."""

import ipaddress
import shutil
import subprocess
from pathlib import Path

from edgecell.errors import InputError, MissingPackageError, OutputError

DAYS = 825
"""Browsers refuse longer ones (Apple's limit for certificates that users trust)."""


def make_certificate(folder: Path, hosts: list[str]) -> tuple[Path, Path]:
    """Makes a self-signed certificate with the system's openssl.

    Args:
        folder: gets ``page.crt`` and ``page.key``, the latter readable by its owner
            alone.
        hosts: names and addresses that browsers will use, at least one.

    Returns:
        Certificate and key.

    Raises:
        InputError: a host that can't stand in a certificate.
        MissingPackageError: openssl is not installed.
        OutputError: the files can't be written, or are there already.
    """
    openssl = shutil.which("openssl")
    if openssl is None:
        raise MissingPackageError(
            "openssl is not installed; install it, or put the page behind a proxy "
            "that has a certificate"
        )
    names = ",".join(map(_alternative_name, hosts))
    certificate, key = folder / "page.crt", folder / "page.key"
    for file in (certificate, key):
        if file.exists():
            raise OutputError(f"{file} exists already; move it away first")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        key.touch(0o600)  # before openssl writes into it
    except OSError as e:
        raise OutputError(f"cannot write {key}: {e.strerror}") from e
    request = [openssl, "req", "-x509", "-nodes", "-sha256", "-days", str(DAYS)]
    request += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    request += ["-subj", "/CN=edgecell", "-addext", f"subjectAltName={names}"]
    request += ["-addext", "extendedKeyUsage=serverAuth"]
    done = subprocess.run(
        [*request, "-keyout", str(key), "-out", str(certificate)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        key.unlink()
        raise OutputError(f"openssl made no certificate: {done.stderr.strip()[-200:]}")
    return certificate, key


def _alternative_name(host: str) -> str:
    try:
        return f"IP:{ipaddress.ip_address(host)}"
    except ValueError:
        pass
    labels = host.removeprefix("*.").split(".")
    if all(
        0 < len(x) < 64 and x.isascii() and x.replace("-", "").isalnum() for x in labels
    ):
        return f"DNS:{host}"
    raise InputError(f"'{host}' is neither a host name nor an address")
