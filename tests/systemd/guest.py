"""A real systemd in private namespaces, with uploaderd installed below its /opt.

It shares the kernel, the loopback and, read-only or through overlays, the file system with the
machine; ``boot.sh`` says how. Commands are run in it with nsenter(1); its files are reached through
``Guest.root``.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

import aiohttp

from tests.support.processes import ROOT

if TYPE_CHECKING:
    from types import TracebackType

BOOT_WORDS = ["unshare", "--mount", "sh", str(Path(__file__).parent / "boot.sh")]
SYSTEMD = Path("/lib/systemd/systemd")
OLDEST = 252
COMMAND_S = 90.0
BOOT_S = 60.0
PROGRAM = "/opt/uploaderd/bin/uploaderd"


def missing() -> str | None:
    """Why no guest can be booted here, or None."""
    if os.geteuid() != 0:
        return "a guest with a systemd of its own needs root"
    for tool in ("unshare", "nsenter", "setpriv", "systemctl", "systemd-analyze", "ldconfig"):
        if shutil.which(tool) is None:
            return f"there is no {tool}"
    if not SYSTEMD.exists():
        return f"there is no {SYSTEMD}"
    said = subprocess.run(["systemctl", "--version"], stdout=subprocess.PIPE, check=True)
    version = re.match(rb"systemd (\d+)", said.stdout)
    if version is None or int(version[1]) < OLDEST:
        return f"systemd is older than {OLDEST}"
    # As the guest does it: the first thing that a container without rights cannot.
    words = ["unshare", "--fork", "--pid", "--mount", "--uts", "--ipc", "--cgroup", "sh", "-c"]
    trial = (
        "mount --make-rprivate / && mount -t proc proc /proc && mount -t cgroup2 cgroup2 /mnt"
        " && mount -t tmpfs tmpfs /opt && mkdir /opt/u /opt/w"
        " && mount -t overlay -o lowerdir=/etc,upperdir=/opt/u,workdir=/opt/w overlay /etc"
    )
    tried = subprocess.run([*words, trial], stderr=subprocess.PIPE, check=False)
    if tried.returncode:
        return f"no namespaces: {tried.stderr.decode().strip()}"
    return None


class Guest:
    """A booted systemd; ``with Guest(folder) as guest: guest.run("systemctl", ...)``.

    Attributes:
        root: its file system, as the machine sees it.
        boot_s: how long it took to boot.
    """

    def __init__(self, folder: Path) -> None:
        self.root = Path("/nowhere")
        self.boot_s = 0.0
        self._name = f"uploaderd-test-{os.getpid()}"
        self._log = folder / "guest.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._pid = 0

    def __enter__(self) -> Self:
        """Boot it, and wait until its basic system is up."""
        base, version = Path(sys.base_prefix).resolve(), sysconfig.get_python_version()
        below_usr = base.is_relative_to("/usr")
        python = f"{base}/bin/python{version}" if below_usr else f"/opt/python/bin/python{version}"
        words = [
            self._name,
            "" if below_usr else str(base),
            python,
            str(Path(aiohttp.__file__).parents[1]),
        ]
        words += [str(ROOT / "uploaderd"), str(ROOT / "systemd")]
        began_s = time.monotonic()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                # Where the tests are killed it goes with them.
                ["setpriv", "--pdeathsig=KILL", *BOOT_WORDS, "enter", *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            self._await_boot(began_s + BOOT_S)
        except BaseException:
            self._end()
            raise
        self.boot_s = time.monotonic() - began_s
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Kill it, with all that runs in it, and leave nothing behind."""
        self._end()

    def _await_boot(self, deadline_s: float) -> None:
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        while time.monotonic() < deadline_s:
            if self._process.poll() is not None:
                break
            # The process that forked is unshare's; its child becomes systemd.
            self._pid = int((children.read_text().split() or ["0"])[0])
            name = Path(f"/proc/{self._pid}/comm")
            with suppress(OSError):
                if self._pid and name.read_text() == "systemd\n":
                    said = self.run("systemctl", "is-system-running", check=False).strip()
                    if said in {"running", "degraded"}:
                        self.root = Path(f"/proc/{self._pid}/root")
                        return
            time.sleep(0.05)
        raise AssertionError(f"the guest did not boot\n{self._log.read_text()}")

    def _end(self) -> None:
        if self._process is None:
            return
        self._process.kill()  # --kill-child takes systemd with it, and the kernel the rest
        self._process.wait()
        deadline_s = time.monotonic() + COMMAND_S
        leave = [*BOOT_WORDS, "leave", self._name]
        while subprocess.run(leave, stderr=subprocess.DEVNULL, check=False).returncode:
            assert time.monotonic() < deadline_s, f"the control group {self._name} stays"
            time.sleep(0.05)

    def run(
        self, *words: str, check: bool = True, given: str = "", timeout_s: float = COMMAND_S
    ) -> str:
        """Run a command as root and wait; return all that it said.

        Raises:
            AssertionError: it did not end with 0, and ``check`` asks for that.
        """
        code, said = self.call(*words, given=given, timeout_s=timeout_s)
        assert not check or code == 0, f"{' '.join(words)} ended with {code}\n{said}"
        return said

    def call(self, *words: str, given: str = "", timeout_s: float = COMMAND_S) -> tuple[int, str]:
        """Run a command as root and wait; return its exit code and all that it said."""
        done = subprocess.run(
            self.words(*words),
            input=given.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            timeout=timeout_s,
        )
        return done.returncode, done.stdout.decode()

    def words(self, *words: str) -> list[str]:
        """The command line that runs ``words`` in it."""
        spaces = ("--mount", "--pid", "--uts", "--ipc", "--cgroup")
        clean = ("env", "-i", "PATH=/opt/uploaderd/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root")
        return ["nsenter", "--target", str(self._pid), *spaces, "--", *clean, *words]

    def path(self, path: str) -> Path:
        """One of its paths, as the machine reaches it."""
        return self.root / path.lstrip("/")

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write one of its files, for root."""
        file = self.path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)
