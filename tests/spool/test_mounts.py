"""Which file systems tell the truth about changes."""

from __future__ import annotations

import os

import pytest

from uploaderd.spool import mounts

MOUNTINFO = """\
22 1 0:20 / / rw,relatime shared:1 - ext4 /dev/root rw
31 22 0:25 / /srv/with\\040space rw shared:7 master:2 - nfs4 server:/a rw
310 22 0:26 / /x rw - fuse.sshfs me@there:/ rw
"""


@pytest.mark.parametrize(
    ("mount", "kind"), [("22", "ext4"), ("31", "nfs4"), ("310", "fuse.sshfs"), ("3", None)]
)
def test_reads_mountinfo(mount: str, kind: str | None) -> None:
    """The type stands after the separator, behind any number of optional fields."""
    assert mounts.kind_of_mount(MOUNTINFO, mount) == kind


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "ceph"])
def test_remote(kind: str) -> None:
    """What others can change behind the kernel's back is polled."""
    assert mounts.is_remote(kind)


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "tmpfs", "overlay", "zfs", "fuseblk"])
def test_local(kind: str) -> None:
    """On local file systems the kernel sees every change."""
    assert not mounts.is_remote(kind)


def test_asks_the_descriptor() -> None:
    """The type is that of what is really open."""
    fd = os.open("/proc/self", os.O_RDONLY)
    try:
        assert mounts.file_system(fd) == "proc"
    finally:
        os.close(fd)
    assert mounts.file_system(10**6) is None
