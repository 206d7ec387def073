"""The server as a process of its own, with what it says of the requests that it had."""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self
from urllib.request import Request, urlopen

from bench.measuring import MissingError, cpu_s
from tests.support.processes import ROOT, environment

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

END_S = 10.0


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as the server saw it.

    Attributes:
        began_ns: when its head was there (CLOCK_MONOTONIC, as ``time.monotonic_ns()`` here).
        ended_ns: when its reply was given, or 0 where it was cut off or is under way.
        call: create, part, complete, cancel, list, put, s3-create, s3-part, s3-complete or other.
        about: the file's name for create, the upload's id for what follows, else the path.
        size: bytes of its body as its head says.
        received: how many of them arrived.
    """

    began_ns: int
    ended_ns: int
    call: str
    about: str
    size: int
    received: int


class Server:
    """A discarding server: ``base_url`` for the daemon and the SDK, ``url`` without the ``/v1``."""

    def __init__(self, folder: Path, *, certificate: Path | None = None) -> None:
        self.certificate = certificate
        self.url = ""
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        """Start it; it listens when this returns."""
        words = [str(self.certificate)] if self.certificate else []
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "bench.server", *words],
                env=environment(self._folder),
                cwd=ROOT,
                stdin=subprocess.PIPE,  # its end tells the server that we are gone
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        assert self.url, (self._folder / "server.log").read_text("utf-8")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it."""
        assert self._process is not None
        self._process.kill()
        self._process.communicate(timeout=END_S)

    @property
    def base_url(self) -> str:
        """As ``base_url`` of a target."""
        return f"{self.url}/v1"

    @property
    def port(self) -> int:
        """The port on 127.0.0.1."""
        return int(self.url.rpartition(":")[2])

    @property
    def pid(self) -> int:
        """The process's id."""
        assert self._process is not None
        return self._process.pid

    @property
    def cpu_s(self) -> float:
        """CPU seconds that it has used."""
        return cpu_s(self.pid)

    def seen(self) -> list[Seen]:
        """Every request since the start or the last ``forget``, the newest 200,000 at most."""
        return [Seen(*row) for row in self._ask("GET")]

    def forget(self) -> None:
        """Begin the list of requests anew."""
        self._ask("DELETE")

    def _ask(self, method: str) -> list[list[Any]]:
        tls = ssl.create_default_context(cafile=self.certificate) if self.certificate else None
        request = Request(f"{self.url}/bench/seen", method=method)  # noqa: S310 - our own server
        with urlopen(request, context=tls, timeout=END_S) as reply:  # noqa: S310 - the same
            rows: list[list[Any]] = json.load(reply)
        return rows


def certificate(folder: Path) -> Path:
    """Make a certificate for 127.0.0.1 that is its own authority, key included, once a folder.

    Raises:
        MissingError: there is no openssl.
    """
    whole = folder / "server.pem"
    if whole.exists():
        return whole
    if shutil.which("openssl") is None:
        raise MissingError("openssl is not installed, so no certificate can be made")
    key, cert = folder / "server.key", folder / "server.crt"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert],
        capture_output=True, check=True,
    )  # fmt: skip
    whole.write_bytes(cert.read_bytes() + key.read_bytes())
    return whole
