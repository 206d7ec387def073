"""Which file system does a descriptor live on, and do events and leases there tell the truth?

Asked by descriptor, not by path: ``/proc/self/fdinfo`` names the mount (proc(5)), which stays
right under bind mounts, mounts over one another and symlinked watches.
"""

from __future__ import annotations

import re
from pathlib import Path

# Others may change these without this kernel knowing: inotify(7) reports only local changes, and
# a lease is either local (fuse) or refused as if the file were open (nfs4 without a delegation,
# cifs without an oplock).
_REMOTE = frozenset(
    {
        "9p", "acfs", "afs", "beegfs", "ceph", "cifs", "coda", "fuse", "gfs2", "glusterfs",
        "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "panfs", "prl_fs",
        "pvfs2", "smb3", "smbfs", "vboxsf", "virtiofs", "vmhgfs",
    }
)  # fmt: skip


def is_remote(kind: str) -> bool:
    """True for a file system type that others can change behind this kernel's back."""
    return kind in _REMOTE or kind.startswith("fuse.")


def file_system(fd: int) -> str | None:
    """Return the type of the file system that ``fd`` lives on; None where that cannot be told."""
    try:
        info = Path(f"/proc/self/fdinfo/{fd}").read_text("utf-8", "replace")
        mounts = Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape")
    except OSError:
        return None
    found = re.search(r"^mnt_id:\s*(\d+)", info, re.MULTILINE)
    return None if found is None else kind_of_mount(mounts, found.group(1))


def kind_of_mount(mountinfo: str, mount_id: str) -> str | None:
    """Find a mount's file system type in the text of ``/proc/self/mountinfo`` (proc(5))."""
    for line in mountinfo.splitlines():
        fixed, _, tail = line.partition(" - ")
        if tail and fixed.split(" ", 1)[0] == mount_id:
            return tail.split(" ", 1)[0]
    return None
