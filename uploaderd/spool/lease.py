"""Asking the kernel whether anyone has a file open for writing.

A read lease is granted only while nobody does (fcntl(2), "Leases"; F_SETLEASE(2const)). It is
held for the one fstat that has to agree with the answer, and given back at once.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal

from uploaderd.core.settle import Writers


def ask(fd: int) -> tuple[os.stat_result, Writers]:
    """Return the file's status and its writers, both of one moment.

    ``fd`` must be an open of its own, for reading only: our own descriptors are then no writers,
    and nobody else loses a lease with it. The file must be owned by our user, or CAP_LEASE held;
    otherwise, and where the file system knows no leases, the answer is unknown.
    """
    try:
        # Someone who opens it meanwhile waits until the lease is back, and the kernel tells us
        # with a signal: SIGIO by default, which would kill. SIGURG is ignored by default, and an
        # ordinary signal never falls back to SIGIO (F_SETSIG(2const)).
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        refused = error.errno == errno.EAGAIN
        return os.fstat(fd), Writers.OPEN if refused else Writers.UNKNOWN
    try:
        return os.fstat(fd), Writers.NONE
    finally:
        with contextlib.suppress(OSError):  # the close that follows gives it back in any case
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
