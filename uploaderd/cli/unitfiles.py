"""The files that make a service: where they come from, where they go, whose they are.

Each file that is put in place begins with a line that holds the digest of the rest. So it is known
later whether it is still what was put there, or a person's by now.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final

import uploaderd
from uploaderd.errors import UploaderdError

if TYPE_CHECKING:
    from collections.abc import Sequence

# What the unit files call the program; `install` puts its own command there.
COMMAND: Final = "/usr/local/bin/uploaderd"

_SYSTEM: Final = {
    "uploaderd.service": "etc/systemd/system",
    "uploaderd.socket": "etc/systemd/system",
    "uploaderd@.service": "etc/systemd/system",
    "uploaderd@.socket": "etc/systemd/system",
    "sysusers.d/uploaderd.conf": "etc/sysusers.d",
    "tmpfiles.d/uploaderd.conf": "etc/tmpfiles.d",
}
_USER: Final = ("user/uploaderd.service", "user/uploaderd.socket")
_MARK: Final = re.compile(
    rb"# Written by `uploaderd service install`; sha256 of the rest: ([0-9a-f]{64})\n"
)


class Whose(StrEnum):
    """What is at a file's place."""

    NOBODYS = "nobody's"
    OURS = "ours"
    CHANGED = "changed"  # ours once; a person has changed it
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """One file in its place.

    Attributes:
        content: what is to be there, its mark included.
    """

    path: Path
    content: bytes


def system_files(root: Path, command: str) -> list[Placed]:
    """The files of a service of the machine whose file system begins at ``root``."""
    return [
        _placed(name, root / folder / Path(name).name, command) for name, folder in _SYSTEM.items()
    ]


def user_files(folder: Path, command: str) -> list[Placed]:
    """The files of a user's service, for the folder of that user's units."""
    return [_placed(name, folder / Path(name).name, command) for name in _USER]


def _placed(name: str, path: Path, command: str) -> Placed:
    body = (_source() / name).read_text("utf-8").replace(COMMAND, command).encode()
    return Placed(path=path, content=_marked(body))


def _marked(body: bytes) -> bytes:
    """Put the line that tells whether a person changed it before a file's text."""
    digest = hashlib.sha256(body).hexdigest()
    return (
        f"# Written by `uploaderd service install`; sha256 of the rest: {digest}\n".encode() + body
    )


def _source() -> Path:
    """A wheel carries the unit files as ``units``; in a checkout they lie beside the package."""
    package = Path(uploaderd.__file__).parent
    for folder in (package / "units", package.parent / "systemd"):
        if (folder / "uploaderd.service").is_file():
            return folder
    raise UploaderdError(
        "this installation has no unit files",
        hint="install uploaderd anew, from a wheel or from a checkout that has the folder systemd",
    )


def whose(path: Path) -> Whose:
    """Tell whose the file at ``path`` is."""
    content = _read(path)
    if content is None:
        return Whose.NOBODYS
    mark = _MARK.match(content)
    if mark is None:
        return Whose.FOREIGN
    whole = hashlib.sha256(content[mark.end() :]).hexdigest() == mark[1].decode()
    return Whose.OURS if whole else Whose.CHANGED


def differs(file: Placed) -> bool:
    """Whether something else is at the file's place, or nothing."""
    return _read(file.path) != file.content


def _read(path: Path) -> bytes | None:
    """What is at ``path``; None where nothing is. A link is no file of ours: it reads as empty."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return b""
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _refused(path, "read", error) from error


def put(file: Placed) -> None:
    """Put a file in its place, whole or not at all; what was there is gone."""
    drafted = None
    try:
        file.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, drafted = tempfile.mkstemp(prefix=".uploaderd-", dir=file.path.parent)
        with os.fdopen(descriptor, "wb") as draft:
            draft.write(file.content)
            draft.flush()
            os.fchmod(descriptor, 0o644)
            os.fsync(descriptor)
        Path(drafted).replace(file.path)
    except OSError as error:
        if drafted is not None:
            with suppress(OSError):
                Path(drafted).unlink()
        raise _refused(file.path, "written", error) from error


def keep(path: Path) -> Path:
    """Keep what a person wrote under another name, which systemd does not read."""
    kept = path.with_name(f"{path.name}.saved")
    try:
        path.replace(kept)
    except OSError as error:
        raise _refused(path, "moved away", error) from error
    return kept


def take_away(path: Path) -> None:
    """Remove a file of ours."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise _refused(path, "removed", error) from error


def _refused(path: Path, what: str, error: OSError) -> UploaderdError:
    hint = "a service of the machine needs root: call it with sudo, or install with --user"
    return UploaderdError(
        f"{path} cannot be {what}: {error.strerror or error}",
        hint=hint if isinstance(error, PermissionError) else "",
    )


def command_line(words: Sequence[str]) -> str:
    """Write a command so that a unit's ``ExecStart=`` takes it as it is.

    Raises:
        UploaderdError: it holds a character that would need more than that.
    """
    for word in words:
        if not re.fullmatch(r"[\w./+@:,=~% -]+", word):
            raise UploaderdError(
                f"a unit file cannot name this installation's path: {word}",
                hint="install uploaderd in a folder with a plain name, such as /opt/uploaderd",
            )
    quoted = (f'"{word}"' if " " in word else word for word in words)
    return " ".join(quoted).replace("%", "%%")


def hidden(paths: Sequence[Path]) -> Path | None:
    """The first of the paths that a service of the machine does not see or may not read.

    Its unit hides the homes and /tmp from it, and its account is nobody's friend.
    """
    for path in paths:
        for step in (path, path.resolve()):
            if step.is_relative_to("/tmp") or step.is_relative_to("/var/tmp"):  # noqa: S108 - no use
                return step
            if any(step.is_relative_to(home) for home in ("/home", "/root", "/run/user")):
                return step
            for folder in (step, *step.parents):
                try:
                    mode = folder.stat().st_mode
                except OSError:
                    continue
                if not mode & stat.S_IXOTH:
                    return step
    return None
