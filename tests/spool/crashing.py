"""Run after-care in a process that is killed with SIGKILL at its nth line, for every n.

Called by test_crash.py as ``python crashing.py FOLDER SCENARIO``; in a mount namespace of its own
for the scenario in which done/ lies on another file system.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from uploaderd.spool import carrying, filing, renaming
from uploaderd.spool.filing import Filing, Moved
from uploaderd.spool.tree import Tree

if TYPE_CHECKING:
    from types import FrameType

    from uploaderd.core.model import Identity

CONTENT = b"content" * 1000
RECEIPT = json.dumps({"id": "f1", "path": "a/x"}).encode()
WATCHED = {module.__file__ for module in (carrying, filing, renaming)}
PLACE = b"done/a/x"


def prepare(root: Path, scenario: str) -> Identity:
    """A fresh spool with one file in it."""
    (root / "a").mkdir(parents=True)
    (root / "done").mkdir()
    if scenario == "other file system":
        libc = ctypes.CDLL(None, use_errno=True)
        done = bytes(root / "done")
        assert libc.mount(b"tmpfs", done, b"tmpfs", 0, None) == 0, os.strerror(ctypes.get_errno())
    (root / "a/x").write_bytes(CONTENT)
    tree = Tree(root)
    identity = tree.identify(b"a/x")
    tree.close()
    return identity


def after_care(root: Path, scenario: str, identity: Identity) -> Moved:
    """What the engine does for one file, from its journalled name on."""
    tree = Tree(root)
    care = Filing(tree)
    care.write_receipt(PLACE, RECEIPT, owner="f1")
    if scenario == "delete":
        outcome = care.remove(b"a/x", identity)
    else:
        outcome = care.move(b"a/x", PLACE, identity)
    tree.close()
    return outcome


def killed_at(line: int, root: Path, scenario: str, identity: Identity) -> bool:
    """Do it in a process that dies before that line; False if it came to its end first."""
    pid = os.fork()
    if pid == 0:
        left = line

        def trace(frame: FrameType, event: str, _arg: object) -> object:
            nonlocal left
            if frame.f_code.co_filename not in WATCHED:
                return None
            if event == "line":
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
            return trace

        sys.settrace(trace)  # type: ignore[arg-type]
        after_care(root, scenario, identity)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def forbid_renameat2() -> None:
    """Let the kernel refuse renameat2 with ENOSYS to this process and its children (seccomp(2))."""
    number = {"x86_64": 316, "aarch64": 276}[os.uname().machine]
    load, if_equal, give = 0x20, 0x15, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K
    allow, refuse = 0x7FFF0000, 0x00050000 | errno.ENOSYS
    program = struct.pack(
        "HBBIHBBIHBBIHBBI",
        *(load, 0, 0, 0, if_equal, 0, 1, number, give, 0, 0, refuse, give, 0, 0, allow),
    )
    buffer = ctypes.create_string_buffer(program, len(program))
    filters = struct.pack("HxxxxxxP", 4, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
    assert libc.prctl(22, 2, filters) == 0, os.strerror(ctypes.get_errno())  # PR_SET_SECCOMP


def copies(root: Path) -> int:
    """In how many places the whole content lies."""
    files = [path for path in root.rglob("*") if path.is_file()]
    return sum(path.read_bytes() == CONTENT for path in files)


def main(base: Path, scenario: str) -> None:
    """Kill at each line, and once more in the second attempt; then let it come to its end."""
    if scenario == "no renameat2":
        forbid_renameat2()
    line = 0
    while True:
        line += 1
        root = base / str(line)
        identity = prepare(root, scenario)
        killed = killed_at(line, root, scenario, identity)
        where = f"{scenario}, killed at line {line}"
        receipt = root / os.fsdecode(PLACE + b".receipt.json")
        if receipt.exists():
            assert receipt.read_bytes() == RECEIPT, f"{where}: half a receipt"
        elif scenario == "delete":
            assert copies(root), f"{where}: deleted before its receipt was there"
        if scenario != "delete":
            assert copies(root), f"{where}: the content is nowhere"
        killed_at(line * 7 % 90 + 1, root, scenario, identity)
        outcome = after_care(root, scenario, identity)
        assert outcome is not Moved.SOURCE_CHANGED, where
        if scenario != "delete":
            assert outcome is not Moved.SOURCE_GONE, where
        left = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
        wanted = ["done/a/x", "done/a/x.receipt.json"]
        assert left == (wanted[1:] if scenario == "delete" else wanted), f"{where}: {left}"
        if scenario != "delete":
            assert (root / "done/a/x").read_bytes() == CONTENT, where
        if not killed:
            break
    sys.stdout.write(str(line))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
