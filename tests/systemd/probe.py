"""Runs in the service's sandbox, in the daemon's place: tries what it is given, tells what came.

Each line of standard output is ``NAME: ok`` or ``NAME: ERRNO``.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import socket
import subprocess
import sys
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWUSER = 0x10000000
SPOOL = "/var/spool/uploaderd"


def libc(function: str, *args: object) -> None:
    """Call the C library; raise OSError where it refuses."""
    if getattr(LIBC, function)(*args) < 0:
        number = ctypes.get_errno()
        raise OSError(number, errno.errorcode[number])


def lease(path: str) -> None:
    """Ask the kernel who writes to somebody else's file."""
    descriptor = os.open(path, os.O_RDONLY)
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)


def listen() -> None:
    """Be a network service."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))


def others() -> None:
    """See a process of another user."""
    Path("/proc/1/cmdline").read_bytes()


def try_all(secrets: list[str]) -> None:
    """Try everything once."""
    trials = {
        "read spool": lambda: Path(f"{SPOOL}/a.txt").read_bytes(),
        "lease": lambda: lease(f"{SPOOL}/a.txt"),
        "write spool": lambda: Path(f"{SPOOL}/b.txt").write_bytes(b"b"),
        "write state": lambda: Path(os.environ["STATE_DIRECTORY"], "x").write_bytes(b"x"),
        "write socket folder": lambda: Path(os.environ["RUNTIME_DIRECTORY"], "x").touch(),
        "read key": lambda: Path(os.environ["CREDENTIALS_DIRECTORY"], "openai-api-key").read_text(),
        "read boot id": lambda: Path("/proc/sys/kernel/random/boot_id").read_text(),
        "speak tcp": lambda: socket.socket(socket.AF_INET6).close(),
        "run spool": lambda: subprocess.run([f"{SPOOL}/run.sh"], check=True),
        "write configuration": lambda: Path("/etc/uploaderd/config.toml").write_text(""),
        "write elsewhere": lambda: Path("/var/lib/x").write_text(""),
        "write programs": lambda: Path("/opt/uploaderd/x").write_text(""),
        "see others": others,
        "listen": listen,
        "packets": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close(),
        "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close(),
        "unshare": lambda: libc("unshare", CLONE_NEWUSER),
        "mount": lambda: libc("mount", b"tmpfs", b"/tmp", b"tmpfs", 0, None),
        "trace": lambda: libc("ptrace", 0, 0, 0, 0),
        "host name": lambda: libc("sethostname", b"x", 1),
        "set-user-id": lambda: Path(f"{SPOOL}/b.txt").chmod(0o4755),
        "write and run": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC),
        "real time": lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
        "raise limits": lambda: libc("setpriority", 0, 0, -5),
        "disk": lambda: os.open("/dev/disk0", os.O_RDONLY),
    } | {f"read {path}": lambda path=path: Path(path).read_bytes() for path in secrets}
    for name, attempt in trials.items():
        try:
            attempt()
        except OSError as error:
            sys.stdout.write(f"{name}: {errno.errorcode[error.errno or 0]}\n")
        else:
            sys.stdout.write(f"{name}: ok\n")


if __name__ == "__main__":
    try_all(sys.argv[1:])
