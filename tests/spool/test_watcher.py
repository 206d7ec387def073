"""What happens in a watched folder is seen: real inotify, real races, real limits."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from uploaderd.core.model import Arrival
from uploaderd.spool.tree import Tree
from uploaderd.spool.watcher import BATCH, READINGS, READINGS_PER_S, Sighting, Watcher

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

LONG_S = 3600.0
PATIENCE_S = 20.0


class Seeing:
    """A watcher at work, and all that it has told so far."""

    def __init__(self, tree: Tree, *, rescan_s: float = LONG_S, recursive: bool = True) -> None:
        self.sightings: list[Sighting] = []
        self.reports: list[tuple[str, dict[str, object]]] = []
        self.largest = 0
        self.watcher = Watcher(
            tree,
            ignore=(".*", "*.tmp"),
            recursive=recursive,
            rescan_s=rescan_s,
            offload=asyncio.to_thread,
            report=lambda event, facts: self.reports.append((event, facts)),
        )
        self._news = asyncio.Condition()

    async def run(self) -> None:
        """Take sightings until cancelled."""
        async with contextlib.aclosing(self.watcher.sightings()) as stream:
            async for batch in stream:
                self.largest = max(self.largest, len(batch))
                async with self._news:
                    self.sightings += batch
                    self._news.notify_all()

    async def until(self, wanted: Callable[[], bool]) -> None:
        """Wait until something holds; it is asked at each batch."""
        async with asyncio.timeout(PATIENCE_S), self._news:
            await self._news.wait_for(wanted)

    async def until_paths(self, *paths: bytes) -> None:
        """Wait until something existing was seen at each of these paths."""
        await self.until(lambda: set(paths) <= self.present())

    async def rescan(self) -> None:
        """Ask for a full scan and wait for its end."""
        scans = self.watcher.scans
        await self.watcher.rescan_now()
        await self.until(lambda: self.watcher.scans > scans)

    def present(self) -> set[bytes]:
        """Where something was seen."""
        return {sighting.path for sighting in self.sightings if sighting.seen is not None}

    def arrivals(self, path: bytes) -> list[Arrival | None]:
        """How things came to a path, in order; None where only something happened."""
        return [
            sighting.arrival if sighting.seen is not None else None
            for sighting in self.sightings
            if sighting.path == path
        ]

    def events(self) -> list[str]:
        """The names of what was reported."""
        return [event for event, _ in self.reports]


@contextlib.asynccontextmanager
async def watching(
    tree: Tree, *, rescan_s: float = LONG_S, recursive: bool = True
) -> AsyncIterator[Seeing]:
    """A watcher whose first scan is over."""
    seeing = Seeing(tree, rescan_s=rescan_s, recursive=recursive)
    task = asyncio.create_task(seeing.run())
    try:
        await seeing.until(lambda: seeing.watcher.scans > 0)
        yield seeing
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_finds_the_backlog(spool: Path, tree: Tree) -> None:
    """What lies there at the start is found, in bounded batches, and inotify is on."""
    for number in range(BATCH * 2 + 1):
        (spool / f"f{number}").touch()
    async with watching(tree) as seeing:
        assert len(seeing.present()) == BATCH * 2 + 1
        assert seeing.largest == BATCH
        assert seeing.arrivals(b"f0") == [Arrival.FOUND]
        assert (seeing.watcher.mode, seeing.watcher.why) == ("inotify", "")


async def test_written_in_place(spool: Path, tree: Tree) -> None:
    """A file that is created is seen at once, and again when its writer closes it."""
    async with watching(tree) as seeing:
        with (spool / "x").open("w") as file:
            await seeing.until_paths(b"x")
            file.write("content")
        await seeing.until(
            lambda: seeing.sightings[-1].seen is not None and len(seeing.sightings) > 1
        )
        assert set(seeing.arrivals(b"x")) == {Arrival.WRITTEN}
        seen = seeing.sightings[-1].seen
        assert seen is not None
        assert seen.size == 7


async def test_renamed_into_place(spool: Path, tree: Tree) -> None:
    """A rename from an ignored name is the only thing seen of a careful producer."""
    async with watching(tree) as seeing:
        (spool / "x.tmp").write_text("content")
        (spool / "x.tmp").rename(spool / "x")
        await seeing.until_paths(b"x")
        assert [(sighting.path, sighting.arrival) for sighting in seeing.sightings] == [
            (b"x", Arrival.RENAMED)
        ]


async def test_opened_and_closed_many_times(spool: Path, tree: Tree) -> None:
    """Each close of a producer that reopens its file again and again wakes us."""
    async with watching(tree) as seeing:
        for size in range(1, 30):
            with (spool / "x").open("a") as file:
                file.write("x")
            await seeing.until(
                lambda size=size: any(  # type: ignore[misc]
                    sighting.seen is not None and sighting.seen.size == size
                    for sighting in seeing.sightings
                )
            )


async def test_events_without_end_are_gathered(
    spool: Path, tree: Tree, child: Callable[[str], subprocess.Popen[str]]
) -> None:
    """A producer that never stops is looked at some times a second, not each time it writes."""
    path = spool / "x"
    program = (
        "import time\n"
        f"open({str(path)!r}, 'ab').close(); print('ready', flush=True)\n"
        "while True:\n"
        f"    with open({str(path)!r}, 'ab') as file: file.write(b'x')\n"
        "    time.sleep(0.0005)\n"
    )
    async with watching(tree) as seeing:
        loop = asyncio.get_running_loop()
        began, before = loop.time(), len(seeing.sightings)
        child(program)
        await seeing.until(lambda: path.exists() and path.stat().st_size > 1000)
        told = len(seeing.sightings) - before
        assert told <= READINGS + READINGS_PER_S * (loop.time() - began) + 5
        (spool / "good").write_text("good")
        await seeing.until_paths(b"good")


@pytest.mark.parametrize("act", ["delete", "chmod", "rename", "leave"])
async def test_something_happened(spool: Path, tree: Tree, tmp_path: Path, act: str) -> None:
    """A file that went or got other permissions is told, to be looked at."""
    (spool / "x").write_text("content")
    async with watching(tree) as seeing:
        if act == "delete":
            (spool / "x").unlink()
        elif act == "chmod":
            (spool / "x").chmod(0o600)
        else:
            (spool / "x").rename((spool if act == "rename" else tmp_path) / "y")
        await seeing.until(lambda: len(seeing.arrivals(b"x")) > 1)
        assert seeing.arrivals(b"x") == [Arrival.FOUND, None]
        if act == "rename":
            await seeing.until_paths(b"y")
            assert seeing.arrivals(b"y") == [Arrival.RENAMED]


async def test_links_and_special_files(spool: Path, tree: Tree) -> None:
    """Symlinks, FIFOs and hard links are seen like files, so that each has its fate."""
    (spool / "target").write_text("x")
    async with watching(tree) as seeing:
        (spool / "symlink").symlink_to("/etc")
        os.mkfifo(spool / "fifo")
        os.link(spool / "target", spool / "hard")
        await seeing.until_paths(b"symlink", b"fifo", b"hard")
        await seeing.rescan()
        assert not any(path.startswith(b"symlink/") for path in seeing.present())


async def test_names_of_any_bytes(spool: Path, tree: Tree) -> None:
    """No name is lost for its bytes, neither by event nor by scan."""
    names = [b"new\nline", b"quo'te\"", b"\xff\xfe.bin", "ü".encode(), b" ", b"[x]", b"a\\b"]
    root = os.fsencode(spool)
    os.mkdir(root + b"/\xe9t\xe9")
    async with watching(tree) as seeing:
        for name in names:
            for folder in (b"", b"\xe9t\xe9/"):
                with open(root + b"/" + folder + name, "wb"):
                    pass
        wanted = [folder + name for folder in (b"", b"\xe9t\xe9/") for name in names]
        await seeing.until_paths(*wanted)
        seeing.sightings.clear()
        await seeing.rescan()
        assert seeing.present() == set(wanted)


async def test_ignored_names_are_silent(spool: Path, tree: Tree) -> None:
    """Ignored names, ignored folders and our own done and failed bring no sightings."""
    (spool / "done").mkdir()
    async with watching(tree) as seeing:
        (spool / ".git").mkdir()
        (spool / ".git/config").write_text("x")
        (spool / "done/x").write_text("x")
        (spool / "failed").mkdir()
        (spool / "failed/x").write_text("x")
        (spool / ".hidden").write_text("x")
        (spool / "last").write_text("x")
        await seeing.until_paths(b"last")
        await seeing.rescan()
        assert {sighting.path for sighting in seeing.sightings} == {b"last"}


async def test_new_folders_race(spool: Path, tree: Tree) -> None:
    """Files put into folders made a moment before are all seen, hundreds of times over."""
    wanted: set[bytes] = set()

    def produce() -> None:
        for number in range(400):
            folder = spool / f"{number}/b/c"
            folder.mkdir(parents=True)
            for place in (folder / "deep", folder.parent / "middle", folder.parent.parent / "high"):
                place.write_text("x")
                wanted.add(os.fsencode(place.relative_to(spool)))

    async with watching(tree) as seeing:
        await asyncio.to_thread(produce)
        await seeing.until(lambda: wanted <= seeing.present())
        assert seeing.watcher.overflows == 0
        assert seeing.watcher.scans == 1
        # and each of these folders is watched from then on
        seeing.sightings.clear()
        for number in range(400):
            (spool / f"{number}/b/c/later").touch()
        await seeing.until_paths(*(b"%d/b/c/later" % number for number in range(400)))


async def test_folder_renamed_in(spool: Path, tree: Tree, tmp_path: Path) -> None:
    """The files of a folder renamed into the spool count as renamed, and it is watched."""
    (tmp_path / "outside/b").mkdir(parents=True)
    (tmp_path / "outside/b/x").write_text("x")
    async with watching(tree) as seeing:
        (tmp_path / "outside").rename(spool / "a")
        await seeing.until_paths(b"a/b/x")
        assert seeing.arrivals(b"a/b/x") == [Arrival.RENAMED]
        (spool / "a/b/y").write_text("y")
        await seeing.until_paths(b"a/b/y")


async def test_folder_renamed_within(spool: Path, tree: Tree) -> None:
    """A folder renamed within the spool goes on being watched, under its new name."""
    (spool / "a/b").mkdir(parents=True)
    (spool / "a/b/x").write_text("x")
    (spool / "other").mkdir()
    async with watching(tree) as seeing:
        for number in range(30):
            (spool / "a").rename(spool / f"other/z{number}")
            (spool / f"other/z{number}/b/new{number}").write_text("x")
            await seeing.until_paths(
                b"other/z%d/b/x" % number, b"other/z%d/b/new%d" % (number, number)
            )
            (spool / f"other/z{number}").rename(spool / "a")
            (spool / f"a/b/back{number}").write_text("x")
            await seeing.until_paths(b"a/b/back%d" % number)
        assert seeing.watcher.folders == 4


async def test_folders_trade_places(spool: Path, tree: Tree) -> None:
    """However folders are renamed round each other, what is put in them is seen where it is."""
    for name in ("a", "b"):
        (spool / name / "sub").mkdir(parents=True)
    async with watching(tree) as seeing:

        def shuffle() -> None:
            for _ in range(300):
                (spool / "a").rename(spool / "c")
                (spool / "b").rename(spool / "a")
                (spool / "c").rename(spool / "b")

        await asyncio.to_thread(shuffle)
        (spool / "a/sub/in-a").write_text("x")
        (spool / "b/sub/in-b").write_text("x")
        await seeing.until_paths(b"a/sub/in-a", b"b/sub/in-b")
        seeing.sightings.clear()
        (spool / "a/sub/again-a").write_text("x")
        (spool / "b/sub/again-b").write_text("x")
        await seeing.until_paths(b"a/sub/again-a", b"b/sub/again-b")
        assert {path for path in seeing.present() if b"again" in path} == {
            b"a/sub/again-a",
            b"b/sub/again-b",
        }
        assert seeing.watcher.folders == 5


async def test_folder_that_leaves_is_let_go(spool: Path, tree: Tree, tmp_path: Path) -> None:
    """A folder renamed out of the spool is no longer watched, nor what is below it."""
    (spool / "a/b/c").mkdir(parents=True)
    async with watching(tree) as seeing:
        assert seeing.watcher.folders == 4
        (spool / "a").rename(tmp_path / "gone")
        (tmp_path / "gone/b/x").write_text("x")
        (spool / "last").write_text("x")
        await seeing.until_paths(b"last")
        await seeing.until(lambda: True)
        assert seeing.present() == {b"last"}
        assert seeing.watcher.folders == 1


async def test_folder_to_an_ignored_name(spool: Path, tree: Tree) -> None:
    """A folder renamed to an ignored name is let go, and taken up when it gets a real one."""
    (spool / "a").mkdir()
    async with watching(tree) as seeing:
        (spool / "a").rename(spool / ".a")
        (spool / ".a/x").write_text("x")
        (spool / ".a").rename(spool / "b")
        await seeing.until_paths(b"b/x")
        assert seeing.arrivals(b"b/x")[0] is Arrival.RENAMED
        assert not any(path.startswith((b".a", b"a/")) for path in seeing.present())


async def test_deleted_folders_are_let_go(spool: Path, tree: Tree) -> None:
    """Folders that come and go leave no watch behind, and may come again."""
    async with watching(tree) as seeing:
        for number in range(50):
            (spool / "a/b").mkdir(parents=True)
            (spool / f"a/b/{number}").write_text("x")
            await seeing.until_paths(b"a/b/%d" % number)
            shutil.rmtree(spool / "a")
        (spool / "last").write_text("x")
        await seeing.until_paths(b"last")
        await seeing.rescan()
        assert seeing.watcher.folders == 1


async def test_not_recursive(spool: Path, tree: Tree) -> None:
    """Without recursion what is in sub-folders is nobody's business."""
    (spool / "a").mkdir()
    (spool / "a/x").write_text("x")
    async with watching(tree, recursive=False) as seeing:
        (spool / "b").mkdir()
        (spool / "b/x").write_text("x")
        (spool / "y").write_text("x")
        await seeing.until_paths(b"y")
        await seeing.rescan()
        assert {sighting.path for sighting in seeing.sightings} == {b"y"}
        assert seeing.watcher.folders == 1


async def test_rescans_by_itself(spool: Path, tree: Tree) -> None:
    """Every rescan brings all that is there, even if nothing happened."""
    (spool / "x").write_text("x")
    async with watching(tree, rescan_s=0.05) as seeing:
        await seeing.until(lambda: len(seeing.arrivals(b"x")) >= 3)
        assert set(seeing.arrivals(b"x")) == {Arrival.FOUND}


async def test_end_of_a_scan_is_marked(spool: Path, tree: Tree) -> None:
    """An empty batch tells that everything there has been told."""
    (spool / "x").write_text("x")
    watcher = Seeing(tree).watcher
    async with contextlib.aclosing(watcher.sightings()) as stream:
        assert [sighting.path for sighting in await anext(stream)] == [b"x"]
        assert await anext(stream) == []
        assert watcher.scans == 1


async def test_overflow_brings_a_scan(spool: Path, tree: Tree) -> None:
    """When the kernel's queue overflows the loss is counted and everything is scanned."""
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if limit > 50_000:
        pytest.skip(f"the queue holds {limit} events here; too many to provoke")
    seeing = Seeing(tree)
    stream = seeing.watcher.sightings()
    assert await anext(stream) == []  # nothing there; from now on the consumer is busy
    count = limit // 2 + 1000
    for number in range(count):
        (spool / f"f{number}").touch()
    os.mkdir(spool / "late")
    (spool / "late/x").touch()
    paths: set[bytes] = set()
    async with asyncio.timeout(120):
        while seeing.watcher.scans < 2:
            paths |= {sighting.path for sighting in await anext(stream)}
    assert seeing.watcher.overflows == 1
    assert "spool.overflow" in seeing.events()
    assert len(paths) == count + 1
    (spool / "late/y").touch()
    async with asyncio.timeout(PATIENCE_S):
        while b"late/y" not in paths:
            paths |= {sighting.path for sighting in await anext(stream)}
    await stream.aclose()


async def test_root_that_goes_and_comes(spool: Path, tree: Tree, tmp_path: Path) -> None:
    """A watched folder that vanishes is told once and polled for; its return is taken up."""
    async with watching(tree, rescan_s=0.05) as seeing:
        spool.rename(tmp_path / "moved")
        await wait_for(lambda: "spool.lost" in seeing.events())
        assert seeing.watcher.mode == "polling"
        assert "is not there" in seeing.watcher.why
        spool.mkdir()
        (spool / "x").write_text("x")
        await seeing.until_paths(b"x")
        await wait_for(lambda: seeing.watcher.mode == "inotify")
        assert seeing.events().count("spool.lost") == 1
        assert seeing.events().count("spool.back") == 1
        (spool / "y").write_text("y")
        await seeing.until(lambda: Arrival.WRITTEN in seeing.arrivals(b"y"))


async def test_root_deleted_and_made_again(spool: Path, tree: Tree) -> None:
    """Another folder in the watch's place is watched, even if it was never seen missing."""
    async with watching(tree, rescan_s=0.05) as seeing:
        spool.rmdir()
        spool.mkdir()
        (spool / "x").write_text("x")
        await seeing.until_paths(b"x")
        (spool / "y").write_text("y")
        await seeing.until(lambda: Arrival.WRITTEN in seeing.arrivals(b"y"))


async def test_replaced_root_found_by_a_look(spool: Path, tree: Tree, tmp_path: Path) -> None:
    """If somebody else's access has already taken up the new folder it is watched all the same."""
    async with watching(tree) as seeing:
        (spool / "x").write_text("x")
        await seeing.until_paths(b"x")
        spool.rename(tmp_path / "moved")
        spool.mkdir()
        (spool / "new").write_text("x")
        tree.look(b"new")
        await seeing.until_paths(b"new")
        (spool / "y").write_text("y")
        await seeing.until(lambda: Arrival.WRITTEN in seeing.arrivals(b"y"))


async def test_missing_at_the_start(tmp_path: Path) -> None:
    """A folder that is not there yet is waited for."""
    seeing = Seeing(Tree(tmp_path / "later"), rescan_s=0.05)
    task = asyncio.create_task(seeing.run())
    await wait_for(lambda: "spool.lost" in seeing.events())
    (tmp_path / "later").mkdir()
    (tmp_path / "later/x").write_text("x")
    await seeing.until_paths(b"x")
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


class OnNfs(Tree):
    """A folder whose file system says that it is nfs4; there is none in a test."""

    def file_system(self) -> str:
        """Say so."""
        return "nfs4"


async def test_polls_a_network_file_system(spool: Path) -> None:
    """Where the kernel does not see others' changes the watch polls, and says why."""
    async with watching(OnNfs(spool), rescan_s=0.05) as seeing:
        assert seeing.watcher.mode == "polling"
        assert "nfs4" in seeing.watcher.why
        (spool / "a").mkdir()
        (spool / "a/x").write_text("x")
        await seeing.until_paths(b"a/x")
        assert seeing.arrivals(b"a/x")[0] is Arrival.FOUND
        assert seeing.events() == ["spool.polling"]


async def test_cancelled_and_begun_again(spool: Path, tree: Tree) -> None:
    """A watcher can be stopped at any moment, leaves nothing open, and begins with a scan."""
    for number in range(2000):
        (spool / f"f{number}").touch()
    seeing = Seeing(tree)
    before = len(os.listdir("/proc/self/fd"))
    for delay_s in (0, 0.001, 0.005, 0.02):
        task = asyncio.create_task(seeing.run())
        await asyncio.wait({task}, timeout=delay_s)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    seeing.sightings.clear()
    task = asyncio.create_task(seeing.run())
    await seeing.until(lambda: len(seeing.present()) == 2000)
    (spool / "last").touch()
    await seeing.until_paths(b"last")
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await wait_for(lambda: len(os.listdir("/proc/self/fd")) <= before)


LIMITED = """
import asyncio, sys
from pathlib import Path
from uploaderd.spool.tree import Tree
from uploaderd.spool.watcher import Watcher

limit, root = Path("/proc/sys/user", sys.argv[1]), Path(sys.argv[2])
limit.write_text(sys.argv[3])
told = []

async def main():
    watcher = Watcher(Tree(root), ignore=(), recursive=True, rescan_s=0.02,
        offload=asyncio.to_thread, report=lambda event, facts: told.append((event, facts)))
    seen = set()
    async for batch in watcher.sightings():
        seen |= {sighting.path for sighting in batch}
        if batch or not watcher.scans:
            continue
        if watcher.mode == "polling" and watcher.scans < 5:
            (root / "9/late").touch()
        elif b"9/late" in seen and watcher.mode == "polling":
            if len(told) == 1:
                print("polling:", watcher.why, flush=True)
                told.append("lifted")
            limit.write_text("100")
        elif watcher.mode == "inotify":
            print("inotify", len(seen), flush=True)
            return

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("limit", "value", "sysctl"),
    [
        ("max_inotify_watches", "5", "fs.inotify.max_user_watches"),
        ("max_inotify_instances", "0", "fs.inotify.max_user_instances"),
    ],
)
def test_watch_limits(spool: Path, limit: str, value: str, sysctl: str) -> None:
    """At the kernel's limit a watch polls and names the sysctl, until there is room again."""
    for number in range(10):
        (spool / str(number)).mkdir()
        (spool / f"{number}/x").touch()
    unshare = ["unshare", "--user", "--map-root-user"]
    probe = subprocess.run([*unshare, "true"], capture_output=True, text=True, check=False)
    if probe.returncode:
        pytest.skip(f"no user namespace to be had here: {probe.stderr.strip()}")
    done = subprocess.run(
        [*unshare, sys.executable, "-c", LIMITED, limit, str(spool), value],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    first, second = done.stdout.splitlines() or ["", done.stderr]
    assert first.startswith("polling:"), done.stderr
    assert sysctl in first
    assert second == "inotify 11"


async def wait_for(wanted: Callable[[], bool]) -> None:
    """Wait for something that no sighting tells of."""
    async with asyncio.timeout(PATIENCE_S):
        while not wanted():
            await asyncio.sleep(0.005)
