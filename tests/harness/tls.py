"""Certificates, which openssl makes for each run of the tests."""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

_NEW_KEY: Sequence[str | Path] = (
    *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
    *("-nodes", "-days", "2"),
)


class Pair(NamedTuple):
    """A certificate and its private key, PEM."""

    cert: Path
    key: Path


class Authority:
    """An authority that signs certificates."""

    def __init__(self, directory: Path, name: str = "authority") -> None:
        """Its files go into `directory`."""
        self.directory = directory
        self.ca = directory / f"{name}.pem"
        self._key = directory / f"{name}-key.pem"
        openssl("req", "-x509", *_NEW_KEY, "-keyout", self._key, "-out", self.ca, "-subj", f"/CN={name}")

    def sign(self, name: str) -> Pair:
        """Returns a certificate for localhost, for a server or a client, whose subject is `name`."""
        pair = Pair(self.directory / f"{name}.pem", self.directory / f"{name}-key.pem")
        extensions = [
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            *("-addext", "basicConstraints=critical,CA:FALSE"),
        ]
        signed: list[str | Path] = ["-CA", self.ca, "-CAkey", self._key, *extensions]
        openssl("req", "-x509", *_NEW_KEY, *signed, "-keyout", pair.key, "-out", pair.cert, "-subj", f"/CN={name}")
        return pair


def openssl(*arguments: str | Path) -> None:
    """Runs openssl once."""
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
