"""What ``check`` looks at around the configuration; it changes nothing."""

from __future__ import annotations

import errno
import os
import re
import shutil
import socket
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from uploaderd.config.secrets import find_key, key_warnings
from uploaderd.control.client import Client
from uploaderd.core.fitness import PURPOSES
from uploaderd.core.model import Flavour
from uploaderd.errors import ConfigError, UploaderdError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from uploaderd.config import Config, Hook, Target, Watch

_NETWORK: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "ceph", "glusterfs", "afs", "lustre", "9p", "beegfs"}
)
_INOTIFY: Final = Path("/proc/sys/fs/inotify")
_FOLDERS_COUNTED: Final = 200_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        level: an error stops the daemon or its files, a warning does not.
    """

    level: Literal["ok", "warning", "error"]
    topic: str
    text: str
    hint: str = ""


def look(config: Config, socket_path: Path, env: Mapping[str, str]) -> list[Finding]:
    """Look at everything."""
    findings = [Finding(level="ok", topic="config", text=f"{config.source} is in order")]
    for watch in config.watches:
        findings += _watch(watch)
        findings += _odd_purpose(watch)
    findings += _state(config.daemon.state_dir)
    used = {watch.target for watch in config.watches}
    for target in config.targets:
        if target.name in used:
            findings += _key(target, env)
            findings += _odd_address(target)
    findings += [_hook(hook, env) for hook in config.hooks]
    findings.append(_socket(socket_path))
    findings += _limits(config)
    return findings


def _watch(watch: Watch) -> Iterator[Finding]:
    path = watch.path
    if not path.is_dir():
        what = "is not a folder" if os.path.lexists(path) else "does not exist"
        yield Finding(
            level="error",
            topic="watch",
            text=f"the watched folder {path} {what}",
            hint=f"make it: mkdir -p {path}",
        )
        return
    if not _may_write(path):
        yield Finding(
            level="error",
            topic="watch",
            text=f"the watched folder {path} may not be written to by this user",
            hint="uploaded files leave it, so the daemon needs write access; see chown and chmod",
        )
        return
    troubles = [trouble for name in ("done", "failed") for trouble in _outlet(path, path / name)]
    yield from troubles
    kind = file_system(path)
    if kind in _NETWORK or kind.startswith("fuse"):
        yield Finding(
            level="warning",
            topic="watch",
            text=f"{path} is on a {kind} file system, which tells of no changes; it is polled",
        )
    if not troubles:
        yield Finding(level="ok", topic="watch", text=f"{path} can be watched and filed ({kind})")


def _outlet(watch: Path, folder: Path) -> Iterator[Finding]:
    """``done/`` and ``failed/`` are there and ours, or can be made."""
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(found.st_mode):
        what = "a symlink" if stat.S_ISLNK(found.st_mode) else "not a folder"
        yield Finding(
            level="error",
            topic="watch",
            text=f"{folder} is {what}; nothing can be filed there",
            hint="move it away; the daemon makes the folder itself",
        )
    elif not _may_write(folder):
        yield Finding(
            level="error",
            topic="watch",
            text=f"{folder} may not be written to by this user",
            hint="see chown and chmod",
        )
    elif found.st_dev != watch.stat().st_dev:
        yield Finding(
            level="error",
            topic="watch",
            text=f"{folder} is on another file system than {watch}; a rename cannot cross that",
            hint="unmount it, or let it be a plain folder of the watch",
        )


def _state(folder: Path) -> Iterator[Finding]:
    there = folder
    while not os.path.lexists(there) and there != there.parent:
        there = there.parent
    if not there.is_dir() or not _may_write(there):
        yield Finding(
            level="error",
            topic="state",
            text=f"the state folder {folder} cannot be used: {there} may not be written to",
            hint="set daemon.state_dir to a folder that the daemon may write to",
        )
        return
    kind = file_system(there)
    if kind in _NETWORK:
        yield Finding(
            level="warning",
            topic="state",
            text=f"the state folder {folder} is on {kind}; a journal needs a local disk",
            hint="set daemon.state_dir to a folder on a local disk",
        )
    how = "can be written to" if there == folder else "can be made"
    yield Finding(level="ok", topic="state", text=f"{folder} {how} ({kind})")
    # The database may be gone, and only its log left.
    kept = {re.sub(r"-(wal|shm|journal)$", "", str(path)) for path in folder.glob("*.damaged-*")}
    for path in sorted(kept):
        yield Finding(
            level="warning",
            topic="state",
            text=f"a damaged journal was set aside as {path}; what was on its way then may have"
            " arrived twice",
            hint="look at the service's files of that time, see to the disk, remove it",
        )


def _odd_purpose(watch: Watch) -> Iterator[Finding]:
    if watch.purpose not in PURPOSES:
        known = ", ".join(PURPOSES)
        text = f"{watch.path}: the purpose {watch.purpose} is none of {known}"
        hint = "the service decides at the first file; correct the watch's purpose if it is a slip"
        yield Finding(level="warning", topic="purpose", text=text, hint=hint)


def _odd_address(target: Target) -> Iterator[Finding]:
    if target.flavour is Flavour.OPENAI and not target.base_url.endswith("/v1"):
        text = f"target {target.name}: {target.base_url} does not end in /v1"
        hint = f"did you mean {target.base_url}/v1?"
        yield Finding(level="warning", topic="target", text=text, hint=hint)


def _key(target: Target, env: Mapping[str, str]) -> Iterator[Finding]:
    try:
        find_key(target, env)
    except ConfigError as error:
        yield Finding(level="error", topic="key", text=str(error), hint=error.hint)
        return
    for warning in key_warnings(target, env):
        yield Finding(level="warning", topic="key", text=warning)
    yield Finding(
        level="ok", topic="key", text=f"target {target.name} has a key, for {target.base_url}"
    )


def _hook(hook: Hook, env: Mapping[str, str]) -> Finding:
    """Whether a hook's program is there; without it files arrive all the same."""
    program = hook.command[0]
    found = shutil.which(program, path=env.get("PATH", os.defpath))
    if found is not None:
        text = f"{found} can be run on {hook.on}"
        return Finding(level="ok", topic="hook", text=text)
    if program.startswith("/") and os.path.lexists(program):
        return Finding(
            level="warning",
            topic="hook",
            text=f"{program} may not be run by this user, so nothing happens on {hook.on}",
            hint=f"chmod +x {program}, and let this user enter its folder",
        )
    return Finding(
        level="warning",
        topic="hook",
        text=f"there is no program {program}, so nothing happens on {hook.on}",
        hint="install it, or name it by its whole path in the hook's command",
    )


def _socket(path: Path) -> Finding:
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return Finding(level="ok", topic="socket", text=f"{path} is free; no daemon runs")
    except OSError as error:
        return Finding(level="error", topic="socket", text=f"{path}: {error.strerror}")
    if not stat.S_ISSOCK(kind):
        return Finding(
            level="error",
            topic="socket",
            text=f"{path} exists and is not a socket",
            hint="move it away, or set daemon.socket to another path",
        )
    try:
        with Client(path) as client:
            pid = client.status().pid
    except UploaderdError as error:
        return _silent(path, error)
    return Finding(level="ok", topic="socket", text=f"a daemon answers on {path}, pid {pid}")


def _silent(path: Path, why: UploaderdError) -> Finding:
    """Tell a socket that nobody holds from one that says nothing."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        if probe.connect_ex(str(path)) == errno.ECONNREFUSED:
            return Finding(
                level="ok", topic="socket", text=f"{path} is stale; the next daemon replaces it"
            )
    return Finding(level="error", topic="socket", text=str(why), hint=why.hint)


def _limits(config: Config) -> Iterator[Finding]:
    limit = _number(_INOTIFY / "max_user_watches")
    instances = _number(_INOTIFY / "max_user_instances")
    if limit is None or instances is None:
        yield Finding(
            level="warning", topic="inotify", text="this system has no inotify; folders are polled"
        )
        return
    needed = sum(_folders(watch) for watch in config.watches)
    if needed > limit:
        yield Finding(
            level="warning",
            topic="inotify",
            text=f"{needed} folders are watched, but the system allows {limit}; the rest is polled",
            hint=f"sysctl fs.inotify.max_user_watches={2 * needed}",
        )
        return
    yield Finding(
        level="ok",
        topic="inotify",
        text=f"{needed} of {limit} watches are needed, {instances} instances are allowed",
    )


def _folders(watch: Watch) -> int:
    if not watch.recursive:
        return 1
    count = 0
    for _ in os.walk(watch.path):
        count += 1
        if count >= _FOLDERS_COUNTED:
            break
    return count


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _may_write(folder: Path) -> bool:
    return os.access(folder, os.R_OK | os.W_OK | os.X_OK, effective_ids=True)


def file_system(path: Path) -> str:
    """The type of the file system that ``path`` is on, as the kernel calls it."""
    target = os.path.realpath(path)
    best, kind = "", "unknown"
    try:
        lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return kind
    for line in lines:
        before, _, after = line.partition(" - ")
        point = _unescaped(before.split()[4])
        inside = target == point or target.startswith(point.rstrip("/") + "/")
        # The last of several mounts at one point is the one that is seen.
        if inside and len(point) >= len(best):
            best, kind = point, after.split()[0]
    return kind


def _unescaped(point: str) -> str:
    """Undo mountinfo's octal escapes of white space and backslashes."""
    for octal, plain in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        point = point.replace(octal, plain)
    return point
