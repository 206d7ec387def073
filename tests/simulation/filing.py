"""After-care over the simulated file system, in the steps of ``spool.filing``."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from uploaderd.errors import GoneError, NameTakenError, SpoolError
from uploaderd.spool import naming
from uploaderd.spool.carrying import Moved

if TYPE_CHECKING:
    from tests.simulation.disk import Disk, Inode
    from tests.simulation.life import Life
    from uploaderd.core.model import Identity


class SimFiling:
    """Each step is durable once it is done; the process may die between any two."""

    def __init__(self, life: Life, disk: Disk, *, leases: bool) -> None:
        self._life = life
        self._leases = leases
        self._disk = disk

    def choose(self, folder: bytes, path: bytes) -> bytes:
        """As ``Filing.choose``."""
        inner, slash, name = path.rpartition(b"/")
        for candidate in naming.candidates(name, room=len(naming.RECEIPT)):
            place = folder + b"/" + inner + slash + candidate
            if not {place, place + naming.RECEIPT} & self._disk.paths.keys():
                return place
        raise AssertionError("candidates are endless")

    def write_receipt(
        self, destination: bytes, document: bytes, *, owner: str, moves: bool = False
    ) -> None:
        """As ``Filing.write_receipt``; here each name is durable at once."""
        del moves
        self._room()
        receipt = destination + naming.RECEIPT
        draft = destination.rpartition(b"/")[0] + b"/" + naming.receipt_draft(owner)
        if receipt not in self._disk.paths:
            inode = self._disk.make(draft)
            self._life.step("filing", f"half a receipt of {destination.decode()}")
            self._disk.write(inode, document)
            self._disk.close(inode)
            self._life.step("filing", f"a receipt of {destination.decode()} without its name")
            self._disk.rename(draft, receipt)
        if _owner_of(self._disk.paths[receipt]) != owner:
            raise NameTakenError(f"Another receipt stands at {destination!r}.")

    def withdraw_receipt(self, destination: bytes, *, owner: str) -> None:
        """As ``Filing.withdraw_receipt``."""
        receipt = self._disk.paths.get(destination + naming.RECEIPT)
        if receipt is not None and _owner_of(receipt) == owner:
            self._disk.unlink(destination + naming.RECEIPT)
        draft = destination.rpartition(b"/")[0] + b"/" + naming.receipt_draft(owner)
        if draft in self._disk.paths:
            self._disk.unlink(draft)

    def bring_back(self, filed_as: bytes, path: bytes, *, owner: str) -> bytes:
        """As ``Filing.bring_back``."""
        if filed_as not in self._disk.paths:
            raise GoneError("It is not there any more.")
        inner, slash, name = path.rpartition(b"/")
        for candidate in naming.candidates(name):
            back = inner + slash + candidate
            if back not in self._disk.paths:
                self._disk.rename(filed_as, back)
                self._life.step("filing", f"{back.decode()} is back")
                self.withdraw_receipt(filed_as, owner=owner)
                return back
        raise AssertionError("candidates are endless")

    def move(
        self, path: bytes, destination: bytes, identity: Identity, *, md5: str | None = None
    ) -> Moved:
        """As ``Filing.move``."""
        self._room()
        self._life.checks.files_away(path, destination, identity)
        there = self._disk.paths.get(destination)
        if there is not None:
            if self._finished(path, there, identity):
                return Moved.ALREADY
            raise NameTakenError(f"{destination!r} is taken.")
        taken = self._take(path, identity, md5)
        if taken is Moved.MOVED:
            self._life.step("filing", f"{path.decode()} is aside")
            if destination in self._disk.paths:
                self._put_back(path, identity)
                raise NameTakenError(f"{destination!r} is taken.")
            self._disk.rename(_aside(path, identity), destination)
        return taken

    def remove(self, path: bytes, identity: Identity, *, md5: str | None = None) -> Moved:
        """As ``Filing.remove``."""
        self._life.checks.files_away(path, None, identity)
        taken = self._take(path, identity, md5)
        if taken is Moved.MOVED:
            self._life.step("filing", f"{path.decode()} is aside")
            self._life.checks.removed(path, self._disk.paths[_aside(path, identity)].data)
            self._disk.unlink(_aside(path, identity))
        return taken

    def _take(self, path: bytes, identity: Identity, md5: str | None) -> Moved:
        aside = _aside(path, identity)
        untouched = False
        if aside not in self._disk.paths:
            found = self._disk.paths.get(path)
            if found is None:
                return Moved.SOURCE_GONE
            if not found.identity.same_bytes(identity):
                return _missed(found, identity)
            untouched = found.ctime_ns == identity.ctime_ns
            self._life.meddle(path)
            if path not in self._disk.paths:
                return Moved.SOURCE_GONE
            self._disk.rename(path, aside)
            self._life.step("filing", f"{path.decode()} is caught")
        waiting = self._disk.paths[aside]
        if waiting.writers and self._leases:
            self._put_back(path, identity)
            raise SpoolError(f"{path.decode()} is open for writing.")
        same = waiting.identity.same_bytes(identity)
        if same and not untouched and md5 is not None:
            same = hashlib.md5(waiting.data, usedforsecurity=False).hexdigest() == md5
        if not same:
            self._put_back(path, identity)
        return Moved.MOVED if same else _missed(waiting, identity)

    def _put_back(self, path: bytes, identity: Identity) -> None:
        inner, slash, name = path.rpartition(b"/")
        for candidate in naming.candidates(name):
            if inner + slash + candidate not in self._disk.paths:
                self._disk.rename(_aside(path, identity), inner + slash + candidate)
                return

    def _finished(self, path: bytes, there: Inode, identity: Identity) -> bool:
        if there.identity.same_bytes(identity):
            return True
        aside = self._disk.paths.get(_aside(path, identity))
        if aside is not None:
            if aside.data == there.data:
                self._disk.unlink(_aside(path, identity))
                return True
            self._put_back(path, identity)
        return False

    def _room(self) -> None:
        if self._disk.full:
            raise SpoolError("There is no room: No space left on device.")


def _missed(found: Inode, identity: Identity) -> Moved:
    here = (found.identity.dev, found.identity.inode) == (identity.dev, identity.inode)
    return Moved.SOURCE_CHANGED if here else Moved.SOURCE_GONE


def _aside(path: bytes, identity: Identity) -> bytes:
    inner, slash, name = path.rpartition(b"/")
    return inner + slash + naming.aside(name, identity.inode)


def _owner_of(receipt: Inode) -> str | None:
    try:
        document = json.loads(receipt.data)
    except ValueError:
        return None
    owner = document.get("id")
    return owner if isinstance(owner, str) else None
