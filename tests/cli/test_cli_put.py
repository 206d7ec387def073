"""``put`` and ``wait``: nothing is seen half-written, nothing is overwritten, everyone is told."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
from typing import TYPE_CHECKING

import pytest

from tests.cli.cli_helpers import FakeView, call, daemon, ended, row, says, start, write_config
from uploaderd.errors import SpoolError
from uploaderd.put import drop

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


def names(folder: Path) -> list[str]:
    """List everything below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def taker(
    spool: Path, *, then: Callable[[str], Mapping[str, object]]
) -> Callable[[FakeView], None]:
    """Make a daemon's behaviour: it takes what is in the spool and says what became of it."""

    def each(view: FakeView) -> None:
        known = {one["inode"] for one in view.rows}
        for path in sorted(spool.rglob("*")):
            found = path.lstat()
            if path.is_file() and not path.name.startswith(".") and found.st_ino not in known:
                place = {"inode": found.st_ino, "dev": found.st_dev}
                facts = place | dict(then(path.name))
                view.rows.insert(0, row(f"id{len(view.rows)}", os.fsencode(path), **facts))

    return each


async def test_put_without_a_daemon_prints_where_it_dropped(tmp_path: Path) -> None:
    """The only watch is taken, and the path is the whole output."""
    config = write_config(tmp_path)
    (tmp_path / "a.txt").write_bytes(b"hello")
    said = await call("put", "a.txt", "--config", config, home=tmp_path)
    assert (said.code, said.err) == (0, "")
    assert said.out == f"{tmp_path}/spool/a.txt\n"
    assert names(tmp_path / "spool") == ["a.txt"]
    assert (tmp_path / "spool/a.txt").read_bytes() == b"hello"
    assert (tmp_path / "a.txt").exists()


async def test_a_taken_name_is_never_overwritten(tmp_path: Path) -> None:
    """The newcomer becomes name~2.ext, then name~3.ext; two of one name in one call too."""
    config = write_config(tmp_path)
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.tar.gz").write_text(folder)
    (tmp_path / "spool/a.tar.gz").write_text("old")
    said = await call("put", "x/a.tar.gz", "y/a.tar.gz", "--config", config, home=tmp_path)
    assert said.code == 0
    spool = tmp_path / "spool"
    assert (spool / "a.tar.gz").read_text() == "old"
    assert [(spool / name).read_text() for name in ("a.tar~2.gz", "a.tar~3.gz")] == ["x", "y"]


async def test_a_purpose_is_a_sub_folder(tmp_path: Path) -> None:
    """A purpose that is not the watch's own becomes its folder's name."""
    config = write_config(tmp_path)
    (tmp_path / "a.jsonl").write_text("{}\n")
    await call("put", "--purpose", "batch", "a.jsonl", "--config", config, home=tmp_path)
    await call("put", "--purpose", "user_data", "a.jsonl", "--config", config, home=tmp_path)
    assert names(tmp_path / "spool") == ["a.jsonl", "batch/a.jsonl"]


async def test_several_watches_need_a_name(tmp_path: Path) -> None:
    """With several watches none is guessed; they are listed, and one can be named."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    watches = f'[[watch]]\npath = "{tmp_path}/one"\n[[watch]]\npath = "{tmp_path}/two"\n'
    watches += "purpose_by_folder = false\n"
    config = write_config(tmp_path, watches=watches)
    (tmp_path / "a").write_text("x")
    said = await call("put", "a", "--config", config, home=tmp_path)
    assert said.code == 2
    assert f"{tmp_path}/one, {tmp_path}/two" in said.err
    named = ("--watch-path", "two", "--config", config)
    assert (await call("put", "a", *named, home=tmp_path)).code == 0
    assert names(tmp_path / "two") == ["a"]
    said = await call("put", "a", "--purpose", "batch", *named, home=tmp_path)
    assert said.code == 2
    assert "gives every file the purpose user_data" in said.err
    said = await call("put", "a", "--watch-path", ".", "--config", config, home=tmp_path)
    assert said.code == 2
    assert "is not a watched folder" in said.err


async def test_without_a_configuration_a_named_folder_will_do(tmp_path: Path) -> None:
    """`--watch-path` alone is enough to drop a file."""
    (tmp_path / "in").mkdir()
    (tmp_path / "a").write_text("x")
    said = await call("put", "a", "--watch-path", "in", home=tmp_path)
    assert (said.code, names(tmp_path / "in")) == (0, ["a"])


@pytest.mark.parametrize("bad", ["missing", "folder", "fifo", "device", "ignored.tmp", ".hidden"])
async def test_nothing_is_dropped_if_one_file_is_unusable(tmp_path: Path, bad: str) -> None:
    """All are looked at before any is copied."""
    config = write_config(tmp_path)
    (tmp_path / "good").write_text("x")
    target = tmp_path / bad
    if bad == "folder":
        target.mkdir()
    elif bad == "fifo":
        os.mkfifo(target)
    elif bad == "device":
        target = target.parent / "null"
        target.symlink_to("/dev/null")
    elif bad != "missing":
        target.write_text("x")
    said = await call("put", "good", target, "--config", config, home=tmp_path)
    assert said.code == 1
    assert said.err.startswith(f"uploaderd: error: {target}")
    assert names(tmp_path / "spool") == []


def test_an_unwritable_place_leaves_nothing(tmp_path: Path) -> None:
    """A failing drop raises a sentence and leaves no temporary file."""
    (tmp_path / "a").write_text("x")
    (tmp_path / "in").write_text("not a folder")
    with pytest.raises(SpoolError, match="could not be dropped"):
        drop(tmp_path / "a", tmp_path / "in")
    (tmp_path / "spool").mkdir()
    with pytest.raises(SpoolError):
        drop(tmp_path / "a", tmp_path / "spool" / "x" / "y")
    assert names(tmp_path / "spool") == []


def test_a_dropped_file_is_whole_and_readable(tmp_path: Path) -> None:
    """Size, bytes and identity are the file's own; its mode is a new file's."""
    body = os.urandom(20_000_001)
    (tmp_path / "a").write_bytes(body)
    (tmp_path / "a").chmod(0o600)
    (tmp_path / "in").mkdir()
    dropped = drop(tmp_path / "a", tmp_path / "in")
    found = dropped.path.stat()
    assert dropped.path.read_bytes() == body
    assert (dropped.dev, dropped.inode, dropped.size) == (
        found.st_dev,
        found.st_ino,
        found.st_size,
    )
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(found.st_mode) == 0o666 & ~umask


async def test_wait_prints_ids_in_the_order_of_the_arguments(tmp_path: Path) -> None:
    """With --wait the ids are the whole standard output."""
    config = write_config(tmp_path)
    for name in "cab":
        (tmp_path / name).write_text(name)
    each = taker(tmp_path / "spool", then=lambda name: {"state": "done", "file_id": f"file-{name}"})
    async with daemon(FakeView(each=each), tmp_path / "s.sock"):
        said = await call("put", "--wait", *"cab", "--config", config, home=tmp_path)
    assert (said.code, said.out, said.err) == (0, "file-c\nfile-a\nfile-b\n", "")


async def test_wait_reports_failures_and_held_files(tmp_path: Path) -> None:
    """A failure is 1 with its reason; a held file is told once, on standard error."""
    config = write_config(tmp_path)
    for name in ("bad", "good", "slow"):
        (tmp_path / name).write_text(name)
    take = taker(
        tmp_path / "spool",
        then=lambda name: (
            {"state": {"bad": "failed", "good": "done"}.get(name, "held")}
            | {"file_id": f"file-{name}"}
        ),
    )

    def each(view: FakeView) -> None:
        take(view)
        for one in view.rows:
            if view.asked > 20 and one["state"] == "held":
                one["state"] = "done"

    async with daemon(FakeView(each=each), tmp_path / "s.sock"):
        said = await call("put", "--wait", "bad", "good", "slow", "--config", config, home=tmp_path)
    assert said.code == 1
    assert said.out == "file-good\nfile-slow\n"
    assert said.err.count("slow is held: This is why it is held.") == 1
    assert "uploaderd: error: bad failed: This is why it is failed." in said.err


async def test_wait_does_not_end_before_the_file_is_filed(tmp_path: Path) -> None:
    """Done is not enough: the file must have left the spool with its receipt."""
    config = write_config(tmp_path)
    (tmp_path / "a").write_text("x")
    facts = {"state": "done", "file_id": "file-a", "filed": False}
    take = taker(tmp_path / "spool", then=lambda _: dict(facts))
    filed = [0]

    def each(view: FakeView) -> None:
        take(view)
        if view.asked == 12:
            view.rows[0]["filed"] = True
            filed[0] = view.asked

    view = FakeView(each=each)
    async with daemon(view, tmp_path / "s.sock"):
        said = await call("put", "--wait", "a", "--config", config, home=tmp_path)
    assert (said.code, said.out) == (0, "file-a\n")
    assert view.asked >= filed[0] == 12


async def test_an_older_file_of_the_same_name_and_inode_is_not_taken_for_it(
    tmp_path: Path,
) -> None:
    """Inodes are used again; a row that is older than the drop speaks of another file."""
    config = write_config(tmp_path)
    (tmp_path / "a").write_text("x")
    path = tmp_path / "spool/a"

    def each(view: FakeView) -> None:
        if path.exists() and not view.rows:
            found = path.stat()
            same = {"inode": found.st_ino, "dev": found.st_dev, "file_id": "file-old"}
            old = {"created_at": "2001-01-01T00:00:00.000Z", "state": "done"}
            view.rows.append(row("old", str(path), **same, **old))
        if view.asked == 10:
            new = view.rows[0] | {"id": "new", "file_id": "file-new"}
            view.rows.insert(0, new | {"created_at": "2100-01-01T00:00:00.000Z"})

    async with daemon(FakeView(each=each), tmp_path / "s.sock"):
        said = await call("put", "--wait", "a", "--config", config, home=tmp_path)
    assert (said.code, said.out) == (0, "file-new\n")


async def test_wait_outlives_a_restart_of_the_daemon(tmp_path: Path) -> None:
    """The daemon may go away and come back meanwhile."""
    config = write_config(tmp_path)
    (tmp_path / "a").write_text("x")
    view = FakeView(each=taker(tmp_path / "spool", then=lambda _: {"state": "uploading"}))
    async with daemon(view, tmp_path / "s.sock"):
        process = await start("put", "--wait", "a", "--config", config, home=tmp_path)
        async with asyncio.timeout(20):
            while not view.rows:
                await asyncio.sleep(0.02)
    await says(process, "waiting for the daemon to come back")
    view.rows[0] |= {"state": "done", "file_id": "file-a"}
    async with daemon(view, tmp_path / "s.sock"):
        said = await ended(process)
    assert (said.code, said.out) == (0, "file-a\n")
    assert "waiting for the daemon" not in said.err  # once is enough


async def test_wait_without_a_daemon_drops_nothing(tmp_path: Path) -> None:
    """A promise that cannot be kept is not begun: 69, and the spool is as it was."""
    config = write_config(tmp_path)
    (tmp_path / "a").write_text("x")
    said = await call("put", "--wait", "a", "--config", config, home=tmp_path)
    assert said.code == 69
    assert names(tmp_path / "spool") == []


async def test_a_wait_that_is_broken_off_says_how_to_go_on(tmp_path: Path) -> None:
    """The same call again would drop the file twice, so that is not the hint."""
    config = write_config(tmp_path)
    (tmp_path / "a").write_text("x")
    view = FakeView(each=taker(tmp_path / "spool", then=lambda _: {"state": "uploading"}))
    async with daemon(view, tmp_path / "s.sock"):
        process = await start("put", "--wait", "a", "--config", config, home=tmp_path)
        async with asyncio.timeout(20):
            while not view.rows or view.asked < 6:
                await asyncio.sleep(0.02)
        process.send_signal(signal.SIGINT)
        said = await ended(process)
    assert (said.code, said.out) == (75, "")
    assert said.err.splitlines() == [
        "uploaderd: error: stopped before the end",
        "uploaderd: hint: all is dropped and goes on by itself; to wait again: uploaderd wait id0",
    ]


async def test_put_json_is_one_document(tmp_path: Path) -> None:
    """With --json everything known about each file is one document."""
    config = write_config(tmp_path)
    (tmp_path / "a").write_text("xyz")
    plain = await call("put", "--json", "a", "--config", config, home=tmp_path)
    assert json.loads(plain.out) == {
        "files": [{"source": "a", "path": f"{tmp_path}/spool/a", "bytes": 3}]
    }
    each = taker(tmp_path / "spool", then=lambda _: {"state": "done", "file_id": "file-a"})
    async with daemon(FakeView(each=each), tmp_path / "s.sock"):
        waited = await call("put", "--json", "--wait", "a", "--config", config, home=tmp_path)
    one = json.loads(waited.out)["files"][0]
    assert (one["path"], one["state"], one["file_id"]) == (
        f"{tmp_path}/spool/a~2",
        "done",
        "file-a",
    )


async def test_wait_takes_paths_and_ids(tmp_path: Path) -> None:
    """`wait` ends when all have ended, prints nothing, and says what failed."""
    view = FakeView(rows=[row("f1", "/spool/a", "done"), row("f2", "/spool/b", "uploading")])

    def each(view: FakeView) -> None:
        if view.asked > 6:
            view.rows[1]["state"] = "done"

    view.each = each
    async with daemon(view, tmp_path / "s"):
        socket = ("--socket", tmp_path / "s")
        good = await call("wait", "/spool/a", "f2", *socket, home=tmp_path)
        view.rows.append(row("f3", "/spool/c", "failed"))
        view.rows.append(row("f4", "/spool/d", "cancelled"))
        bad = await call("wait", "f3", "f4", "f1", *socket, home=tmp_path)
        unknown = await call("wait", "f9", *socket, home=tmp_path)
        (tmp_path / "here").write_text("x")
        elsewhere = await call("wait", "here", *socket, home=tmp_path)
    assert (good.code, good.out, good.err) == (0, "", "")
    assert bad.code == 1
    assert "f3 failed: This is why it is failed." in bad.err
    assert "f4 was cancelled" in bad.err
    assert unknown.code == 1
    assert "is not in a watched folder" in elsewhere.err


async def test_any_name_can_be_put_and_waited_for(tmp_path: Path) -> None:
    """Bytes that are no UTF-8, spaces, new lines and escapes pass through put --wait."""
    config = write_config(tmp_path)
    name = b"a \xff\n\x1b%&+.bin"
    (tmp_path / os.fsdecode(name)).write_text("x")
    each = taker(tmp_path / "spool", then=lambda _: {"state": "done", "file_id": "file-a"})
    async with daemon(FakeView(each=each), tmp_path / "s.sock"):
        said = await call("put", "--wait", name, "--config", config, home=tmp_path)
        shown = await call("put", name, "--config", config, home=tmp_path)
    assert (said.code, said.out, said.err) == (0, "file-a\n", "")
    assert len(shown.out.splitlines()) == 1
