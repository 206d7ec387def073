"""After-care of an ended file: its receipt, then its move to ``done/`` or ``failed/``, or removal.

Each step is one method, safe to call again after a crash at any point of it; the engine journals
between them. The order that keeps a promise at each moment:

1. ``choose`` a free name. 2. ``write_receipt``, which reserves it: a receipt that exists is whole
and names its owner. 3. ``move`` or ``remove``, which only ever touch the content they were given.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
from typing import TYPE_CHECKING

from uploaderd.errors import GoneError, NameTakenError, SpoolError
from uploaderd.spool import beneath, naming
from uploaderd.spool.carrying import (
    Moved,
    Sure,
    aside_of,
    carry,
    finished,
    looks_moved,
    name_limit,
    put_back,
    take_as,
    write_new,
)
from uploaderd.spool.renaming import exists, rename_new, status, sync_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from uploaderd.core.model import Identity
    from uploaderd.spool.tree import Tree

__all__ = ["Filing", "Moved"]

_LARGEST_RECEIPT = 64 << 20


class Filing:
    """After-care below one watch."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    def choose(self, folder: bytes, path: bytes) -> bytes:
        """Return the first free place for ``path`` below ``folder``, such as ``done/x~2.jsonl``.

        Free is where neither the name nor its receipt exists. A folder on the way whose name is
        taken by something else gets a ``~2`` likewise. Names are cut where the receipt's suffix
        would not fit.

        Raises:
            SpoolError: ``folder`` itself is a symlink or no folder.
        """
        *inner, name = beneath.names(path)
        taken: list[bytes] = [folder]
        fd = self._open_top(folder)
        try:
            limit = name_limit(fd) if fd is not None else naming.NAME_MAX
            for part in inner:
                if fd is None:
                    taken.append(part)
                    continue
                chosen, below = _enter_or_next(fd, part, limit)
                os.close(fd)
                fd = below
                taken.append(chosen)
            for candidate in naming.candidates(name, limit=limit, room=len(naming.RECEIPT)):
                if fd is None or not (
                    exists(candidate, fd) or exists(candidate + naming.RECEIPT, fd)
                ):
                    return b"/".join([*taken, candidate])
            raise AssertionError("candidates are endless")
        finally:
            if fd is not None:
                os.close(fd)

    def write_receipt(
        self, destination: bytes, document: bytes, *, owner: str, moves: bool = False
    ) -> None:
        """Write the receipt of ``destination``, whole and durable, or leave ours that is there.

        Args:
            destination: the place below the watch.
            document: JSON with ``owner`` as its ``"id"``.
            owner: whose receipt it is.
            moves: ``move`` to that place follows, which makes the receipt's name durable with the
                file's; both are found again if one or both of them were lost.

        Raises:
            NameTakenError: another owner's receipt, or something else, has that name.
            SpoolError: a folder on the way is a symlink, or there is no room.
        """
        with self._folder_of(destination, make=True) as (fd, name), beneath.mapped(destination):
            receipt, draft = name + naming.RECEIPT, naming.receipt_draft(owner)
            ours = not exists(receipt, fd) and _write_receipt(receipt, draft, document, fd)
            if not ours:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(draft, dir_fd=fd)
                if _owner_of(receipt, fd) != owner:
                    raise NameTakenError(f"Another receipt stands at {beneath.shown(destination)}.")
            if not moves:
                sync_folder(fd)  # again, if it was there: the crash may have come before this line

    def withdraw_receipt(self, destination: bytes, *, owner: str) -> None:
        """Take back our receipt of ``destination``, so that another name can be chosen."""
        try:
            with (
                self._folder_of(destination, make=False) as (fd, name),
                beneath.mapped(destination),
            ):
                receipt = name + naming.RECEIPT
                if exists(receipt, fd) and _owner_of(receipt, fd) == owner:
                    os.unlink(receipt, dir_fd=fd)
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(naming.receipt_draft(owner), dir_fd=fd)
                sync_folder(fd)
        except GoneError:
            return

    def move(
        self, path: bytes, destination: bytes, identity: Identity, *, md5: str | None = None
    ) -> Moved:
        """Move a file, of any kind, to ``destination``, durably; never over anything.

        ``md5`` is the content's that ended, if that is known; see ``carrying.take``.

        Returns:
            ``MOVED``; ``ALREADY`` if an earlier call did; ``SOURCE_GONE`` and ``SOURCE_CHANGED``
            if ``path`` does not hold ``identity``'s content, and then nothing was touched.

        Raises:
            NameTakenError: something else stands at the destination; the file is where it was.
            SpoolError: a folder on the way is a symlink, there is no room for a copy, or someone
                has the file open for writing.
        """
        sure = Sure(ask=self._tree.ask, md5=md5)
        held = self._tree.claims.hold(path)
        with held, self._folder_of(destination, make=True) as (to_fd, new_name):
            with beneath.mapped(destination):
                there = status(new_name, to_fd)
            try:
                with self._tree.parent(path) as (fd, name), beneath.mapped(path):
                    if there is None:
                        return _move_new(fd, name, identity, sure, to_fd, new_name)
                    if finished(fd, name, identity, sure, to_fd, new_name):
                        _sync_both(fd, to_fd)
                        return Moved.ALREADY
            except FileExistsError as error:
                raise _taken(destination) from error
            except GoneError:
                sync_folder(to_fd)
                known = there is not None and looks_moved(there, identity)
                return Moved.ALREADY if known else Moved.SOURCE_GONE
        raise _taken(destination)

    def remove(self, path: bytes, identity: Identity, *, md5: str | None = None) -> Moved:
        """Delete a file durably (``after_upload = "delete"``); as ``move`` does."""
        sure = Sure(ask=self._tree.ask, md5=md5)
        held = self._tree.claims.hold(path)
        try:
            with held, self._tree.parent(path) as (fd, name), beneath.mapped(path):
                aside = aside_of(fd, name, identity)
                taken = take_as(aside, fd, name, identity, sure)
                if taken is Moved.MOVED:
                    os.unlink(aside, dir_fd=fd)
                    sync_folder(fd)
                return taken
        except GoneError:
            return Moved.SOURCE_GONE

    def bring_back(self, filed_as: bytes, path: bytes, *, owner: str) -> bytes:
        """Move what was filed as ``filed_as`` back to ``path``, or to the next free name there.

        Then our receipt is withdrawn: it is not the file's end any more.

        Returns:
            the path below the watch that it has now.

        Raises:
            GoneError: nothing stands there any more.
            SpoolError: a folder on the way cannot be used, or lies on another file system.
        """
        with (
            self._folder_of(filed_as, make=False) as (fd, name),
            self._folder_of(path, make=True) as (to_fd, wanted),
            beneath.mapped(filed_as),
        ):
            for candidate in naming.candidates(wanted, limit=name_limit(to_fd)):
                try:
                    rename_new(name, candidate, from_fd=fd, to_fd=to_fd)
                except FileExistsError:
                    continue
                _sync_both(fd, to_fd)
                break
            else:
                raise AssertionError("candidates are endless")
        self.withdraw_receipt(filed_as, owner=owner)
        return path[: len(path) - len(wanted)] + candidate

    def _open_top(self, folder: bytes) -> int | None:
        root = self._tree.folder()
        try:
            return os.open(folder, beneath.FOLDER_BENEATH, dir_fd=root)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _top_refused(folder, error) from error
        finally:
            os.close(root)

    @contextlib.contextmanager
    def _folder_of(self, destination: bytes, *, make: bool) -> Iterator[tuple[int, bytes]]:
        """Lend the folder that a destination lies in, made and durable if asked, and its name."""
        top, *inner = beneath.names(destination)
        *folders, name = [top, *inner]
        fd = self._tree.folder()
        try:
            for depth, part in enumerate(folders):
                try:
                    below = _enter(fd, part, make=make)
                except OSError as error:
                    if depth == 0 and error.errno in {errno.ENOTDIR, errno.ELOOP}:
                        raise _top_refused(part, error) from error
                    if make and error.errno in {errno.ENOTDIR, errno.ELOOP}:
                        raise NameTakenError(f"{beneath.shown(part)} is no folder.") from error
                    raise beneath.translated(error, destination) from error
                os.close(fd)
                fd = below
            yield fd, name
        finally:
            os.close(fd)


def _enter(fd: int, name: bytes, *, make: bool) -> int:
    try:
        return os.open(name, beneath.FOLDER_BENEATH, dir_fd=fd)
    except FileNotFoundError:
        if not make:
            raise
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o777, dir_fd=fd)  # less the umask
    sync_folder(fd)
    return os.open(name, beneath.FOLDER_BENEATH, dir_fd=fd)


def _enter_or_next(fd: int, name: bytes, limit: int) -> tuple[bytes, int | None]:
    """Open the first of ``name``, ``name~2`` … that is a folder, or name the first that is free."""
    for candidate in naming.candidates(name, limit=limit):
        try:
            return candidate, os.open(candidate, beneath.FOLDER_BENEATH, dir_fd=fd)
        except FileNotFoundError:
            return candidate, None
        except OSError as error:
            if error.errno not in {errno.ENOTDIR, errno.ELOOP}:
                raise beneath.translated(error, candidate) from error
    raise AssertionError("candidates are endless")


def _write_receipt(receipt: bytes, draft: bytes, document: bytes, fd: int) -> bool:
    """Write it under a hidden name, then give it its own; False if that is taken by now."""
    try:
        try:
            write_new(draft, document, fd)
        except FileExistsError:  # half of one, from before a crash
            os.unlink(draft, dir_fd=fd)
            write_new(draft, document, fd)
        rename_new(draft, receipt, from_fd=fd, to_fd=fd)
    except FileExistsError:
        return False
    except OSError:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft, dir_fd=fd)
        raise
    return True


def _owner_of(receipt: bytes, fd: int) -> str | None:
    """Read whose receipt stands there; None for anything that is not one of ours."""
    try:
        source = os.open(receipt, beneath.FILE_BENEATH, dir_fd=fd)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENXIO, errno.EACCES, errno.ENOENT}:
            return None
        raise
    with os.fdopen(source, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return None
        try:
            document = json.loads(file.read(_LARGEST_RECEIPT))
        except (ValueError, RecursionError):
            return None
    owner = document.get("id") if isinstance(document, dict) else None
    return owner if isinstance(owner, str) else None


def _move_new(
    fd: int, name: bytes, identity: Identity, sure: Sure, to_fd: int, new_name: bytes
) -> Moved:
    aside = aside_of(fd, name, identity)
    taken = take_as(aside, fd, name, identity, sure)
    if taken is not Moved.MOVED:
        sync_folder(to_fd)  # its receipt stays there without it
        return taken
    try:
        carry(aside, fd, new_name, to_fd)
    except BaseException:
        put_back(fd, aside, name)
        raise
    _sync_both(fd, to_fd)
    return Moved.MOVED


def _sync_both(fd: int, to_fd: int) -> None:
    sync_folder(to_fd)
    sync_folder(fd)


def _taken(destination: bytes) -> NameTakenError:
    return NameTakenError(f"{beneath.shown(destination)} is taken.")


def _top_refused(folder: bytes, error: OSError) -> SpoolError:
    name = beneath.shown(folder)
    if error.errno in {errno.ENOTDIR, errno.ELOOP}:
        return SpoolError(
            f"{name} in the watched folder is a symlink or no folder, so nothing is moved there.",
            hint=f"Rename or remove {name}; a bind mount may stand in for a symlink.",
        )
    return beneath.translated(error, folder)
