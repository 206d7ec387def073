"""What goes on while the daemon is killed, for the crash table: a file, a service, a mishap."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import aiohttp

from tests.support import outcome
from tests.support.daemon import DaemonProcess
from tests.support.waiting import wait_until
from uploaderd.emulator import Call, Emulator

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.support.daemon import Table

MIB = 1 << 20
NAME = "a.bin"
INNER = "inner/a.bin"
OTHER_NAME = "b.bin"
PARTS_IN_FLIGHT = 2
CONTENT = random.Random(1).randbytes(5 * MIB // 2)  # two parts and a half, no two of them alike
OTHER = bytes(reversed(CONTENT))[: 3 * MIB // 2]
FLIPPED = bytes(byte ^ 255 for byte in CONTENT)
DEATH_S = 20.0
OLD_NAME = "old.bin"
AGE_S = 100 * 86_400
RUNS = 3  # a hook's: two that nobody saw end, and one more
# Its runs and their ends are counted beside the spool; without "go" it takes long.
HOOK: Table = {
    "on": "done",
    "command": [
        "/bin/sh",
        "-c",
        """cd "${UPLOADERD_PATH%/*}/.." && echo "$UPLOADERD_ID" >> runs
        { [ -e go ] || exec sleep 30; } && echo "$UPLOADERD_ID" >> ended""",
    ],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """Where the daemon dies: before or after the n-th time that it takes a step."""

    at: str
    when: str
    nth: int = 1

    @property
    def words(self) -> list[str]:
        """The command line of ``tests.support.doomed``."""
        return ["--at", self.at, "--when", self.when, "--nth", str(self.nth)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One story up to its end.

    Attributes:
        content: what is dropped at first.
        arrives: what is at the service in the end, or None for nothing.
        ending: the state that the newest row of the file ends in.
        before: a death that comes before the one that the table is about.
        prepare: what happens before that one: ``before`` was died already.
        meddle: what happens while the daemon runs towards its death.
        mend: what happens before the ordinary start.
        then: what happens right after it.
        sessions: how many sessions of the service may have got parts.
        last_name: its name in the spool at last.
        filed_as: its name below ``done/``, where that is another one.
        foreign: names below ``done/`` that are not the daemon's.
        counted: its receipt counts all that was sent, since it is the same content throughout.
        settles: an end without ``left`` being empty; how many rows must have ended.
        hooks: the programs that are run at its end.
        check: what else must be true in the end.
    """

    name: str
    content: bytes = CONTENT
    arrives: bytes | None = CONTENT
    ending: str = "done"
    faults: tuple[str, ...] = ()
    config: dict[str, Table] = field(default_factory=dict)
    before: Death | None = None
    prepare: Callable[[DaemonProcess], Awaitable[None]] | None = None
    meddle: Callable[[DaemonProcess, Emulator], Awaitable[None]] | None = None
    mend: Callable[[DaemonProcess], None] | None = None
    then: Callable[[DaemonProcess, Death], Awaitable[None]] | None = None
    sessions: int = 1
    counted: bool = True
    moved: bool = True
    settles: int | None = None
    last_name: str = NAME
    filed_as: str = ""
    foreign: frozenset[str] = frozenset()
    hooks: tuple[Table, ...] = ()
    check: Callable[[DaemonProcess], Awaitable[None]] | None = None


async def play(scene: Scene, death: Death, root: Path) -> None:
    """Play a scene up to a death, start the ordinary daemon again, and check all of it."""
    config = {name: dict(table) for name, table in scene.config.items()}
    config["transfer"] = config.get("transfer", {}) | {"parts_in_flight": PARTS_IN_FLIGHT}
    async with (
        Emulator(store=root / "store", faults=scene.faults) as emulator,
        DaemonProcess(root, emulator.base_url, config=config, hooks=scene.hooks) as daemon,
    ):
        daemon.drop(NAME, scene.content)
        deaths = 1
        if scene.before is not None:
            await _die(daemon, scene.before)
            deaths += 1
        if scene.prepare is not None:
            await scene.prepare(daemon)
        await daemon.launch("tests.support.doomed", death.words, notify=False)
        if scene.meddle is not None:
            await scene.meddle(daemon, emulator)
        await _dead(daemon)
        daemon.configure(watch={"settle": "100ms"})
        if scene.mend is not None:
            scene.mend(daemon)
        await daemon.start()
        if scene.then is not None:
            await scene.then(daemon, death)
        await daemon.until_drained(files=scene.settles)
        await wait_until(
            lambda: not outcome.unended(daemon.state_dir), what="every session to have ended"
        )
        await _check(scene, daemon, emulator, deaths)
        if scene.check is not None:
            await scene.check(daemon)
        assert await daemon.stop() == 0


async def _die(daemon: DaemonProcess, death: Death) -> None:
    await daemon.launch("tests.support.doomed", death.words, notify=False)
    await _dead(daemon)


async def _dead(daemon: DaemonProcess) -> None:
    """Wait for the death; a step that never comes is a wrong row of the table."""
    assert await daemon.process.ended(DEATH_S) == -9, daemon.process.last_words()


async def _check(scene: Scene, daemon: DaemonProcess, emulator: Emulator, deaths: int) -> None:
    row = await daemon.file(scene.last_name)
    assert row is not None
    assert row["state"] == scene.ending
    assert row["filed"]
    if scene.settles is None:
        assert daemon.left() == []
    if scene.arrives is not None:
        name, filed = scene.last_name, scene.filed_as or scene.last_name
        outcome.assert_receipt(
            emulator, daemon, name, scene.arrives, remote_name=NAME, filed_as=filed
        )
        assert len(emulator.store.files) == 1
        own = {f"{filed}.receipt.json", *([filed] if scene.moved else [])}
        assert outcome.files_below(daemon.spool / "done") == own | scene.foreign
        if scene.moved:
            assert (daemon.spool / "done" / filed).read_bytes() == scene.arrives
        if scene.sessions == 1:
            twice = outcome.sent_twice(emulator, len(scene.arrives))
            assert twice <= deaths * PARTS_IN_FLIGHT * MIB + _refused(emulator)
        if scene.counted:
            outcome.assert_counted(emulator, daemon, filed)
    else:
        assert not emulator.store.files
    assert len(outcome.uploads_with_parts(emulator)) <= scene.sessions
    if scene.ending == "failed":
        failed = daemon.spool / "failed"
        assert (failed / NAME).read_bytes() == scene.content
        assert outcome.read_receipt(failed / NAME)["outcome"] == "failed"
        assert outcome.files_below(failed) == {NAME, f"{NAME}.receipt.json"}
    requests = "SELECT count(*) FROM requests WHERE outcome IS NULL"
    assert outcome.ask_journal(daemon.state_dir, requests) == [(0,)]


def _refused(emulator: Emulator) -> int:
    """Bytes of parts that the service read and then refused: those had to be sent again."""
    return sum(
        one.bytes_received
        for one in emulator.stats.requests
        if one.call is Call.PART and one.status not in {None, 200}
    )


# The mishaps


async def half_way(emulator: Emulator, stored: int = 1) -> None:
    """Wait until so many parts are stored and another one is on its way."""

    def reached() -> bool:
        begun = (one for one in emulator.stats.requests if one.call is Call.PART)
        on_its_way = any(one.status is None and one.bytes_received for one in begun)
        return on_its_way and emulator.stats.count(Call.PART, 200) >= stored

    await wait_until(reached, what=f"a part on its way behind {stored} that are stored")


async def rewrite(daemon: DaemonProcess, emulator: Emulator) -> None:
    """Write another content into the file while it is sent."""
    await half_way(emulator)
    (daemon.spool / NAME).write_bytes(OTHER)


async def remove(daemon: DaemonProcess, emulator: Emulator) -> None:
    """Remove the file while its only part is sent.

    Another part that ended right then would see the changed link count first: then it settles
    before it is found gone.
    """
    await half_way(emulator, 0)
    (daemon.spool / NAME).unlink()


async def flip(daemon: DaemonProcess) -> None:
    """Change every byte of the file behind the back of its identity.

    A file system with coarse time stamps shows the same mtime and ctime after such a change; here
    the journal is given the new ones.
    """
    path = daemon.spool / NAME
    with path.open("r+b") as file:
        file.write(FLIPPED)
    now = path.stat()
    with closing(sqlite3.connect(daemon.state_dir / "journal.sqlite3")) as journal:
        journal.execute(
            "UPDATE files SET mtime_ns = ?, ctime_ns = ?", (now.st_mtime_ns, now.st_ctime_ns)
        )
        journal.commit()


async def arrive_and_touch(daemon: DaemonProcess) -> None:
    """Let the file arrive, then give it a new time stamp and no new bytes."""
    await daemon.start()
    await daemon.until_drained(files=1)
    assert await daemon.stop() == 0
    os.utime(daemon.spool / NAME)


async def rename(daemon: DaemonProcess, emulator: Emulator) -> None:
    """Move the file to another folder of the watch while it is sent."""
    await half_way(emulator)
    (daemon.spool / INNER).parent.mkdir()
    (daemon.spool / NAME).rename(daemon.spool / INNER)


async def rename_meanwhile(daemon: DaemonProcess) -> None:
    """Give the file another name while no daemon runs."""
    (daemon.spool / NAME).rename(daemon.spool / OTHER_NAME)


async def say_pause(daemon: DaemonProcess, emulator: Emulator) -> None:
    """Pause the daemon while a part is sent, which is the end of it."""
    await half_way(emulator)
    with suppress(aiohttp.ClientError):
        await daemon.ask("/v1/pause", method="POST")


async def resume_if_paused(daemon: DaemonProcess, death: Death) -> None:
    """What was kept of the word holds; then it is taken back."""
    state = (await daemon.status())["state"]
    assert state == ("paused" if death.when == "after" else "running")
    await daemon.ask("/v1/resume", method="POST")


async def say_limit(daemon: DaemonProcess, emulator: Emulator) -> None:
    """Limit the bandwidth while a part is sent, which is the end of the daemon."""
    await half_way(emulator)
    with suppress(aiohttp.ClientError):
        await daemon.ask("/v1/limit", method="POST", json={"limit": "20MiB/s"})


async def unlimit_if_limited(daemon: DaemonProcess, death: Death) -> None:
    """What was kept of the word holds; then it is taken back."""
    why = (await daemon.status())["bandwidth"]["why"]
    assert why == ("operator" if death.when == "after" else "configured")
    await daemon.ask("/v1/limit", method="POST", json={"limit": "config"})


async def dismiss(daemon: DaemonProcess, emulator: Emulator) -> None:
    """Cancel the file while a part is sent, which is the end of the daemon."""
    await half_way(emulator)
    with suppress(aiohttp.ClientError):
        await _cancel(daemon)


async def dismiss_again(daemon: DaemonProcess, death: Death) -> None:
    """Cancel it once more, unless that was kept."""
    row = await daemon.file(NAME)
    assert row is not None
    assert (row["state"] == "cancelled") == (death.when == "after")
    await _cancel(daemon)


async def _cancel(daemon: DaemonProcess) -> None:
    await _say(daemon, "cancel")


async def _say(daemon: DaemonProcess, verb: str) -> None:
    row = await daemon.file(NAME)
    assert row is not None
    await daemon.ask(f"/v1/files/{row['id']}/{verb}", method="POST")


async def hold(daemon: DaemonProcess, emulator: Emulator) -> None:
    """Hold the file while a part is sent, which is the end of the daemon."""
    await half_way(emulator)
    with suppress(aiohttp.ClientError):
        await _say(daemon, "hold")


async def release_if_held(daemon: DaemonProcess, death: Death) -> None:
    """What was kept of the word holds; then it is taken back."""
    row = await daemon.file(NAME)
    assert row is not None
    assert (row["reason"]["code"] == "held.operator") == (death.when == "after")
    if death.when == "after":
        await _say(daemon, "release")


async def let_it_fail(daemon: DaemonProcess) -> None:
    """Let the empty file fail, and mend it where it lies then."""
    await daemon.start()
    await daemon.until_drained()
    assert await daemon.stop() == 0
    (daemon.spool / "failed" / NAME).write_bytes(CONTENT)


async def retry(daemon: DaemonProcess, _emulator: Emulator) -> None:
    """Have it tried again, which is the end of the daemon."""

    async def failed() -> bool:
        with suppress(aiohttp.ClientError):
            return await daemon.file(NAME) is not None
        return False

    await wait_until(failed, what="the status socket")
    with suppress(aiohttp.ClientError):
        await _say(daemon, "retry")


async def retry_if_left(daemon: DaemonProcess, _death: Death) -> None:
    """Say it again if it still lies in failed/."""
    if (daemon.spool / "failed" / NAME).exists():
        await _say(daemon, "retry")


async def take_its_place(daemon: DaemonProcess) -> None:
    """Put a foreign file where the source was to go."""
    (daemon.spool / "done" / NAME).write_bytes(b"foreign")


async def block(daemon: DaemonProcess) -> None:
    """Let a file stand where the folder ``done`` belongs."""
    (daemon.spool / "done").write_bytes(b"no folder")


def unblock(daemon: DaemonProcess) -> None:
    """Take that file away."""
    (daemon.spool / "done").unlink()


async def let_it_end(daemon: DaemonProcess) -> None:
    """Let the hook's next runs end at once."""
    (daemon.root / "go").touch()


def let_it_go(daemon: DaemonProcess) -> None:
    """As ``let_it_end``."""
    (daemon.root / "go").touch()


async def stop_while_it_runs(daemon: DaemonProcess, emulator: Emulator) -> None:
    """Ask the daemon to stop while the hook runs, which is the end of it."""
    del emulator
    await wait_until((daemon.root / "runs").exists, what="the hook to run")
    os.kill(daemon.pid, signal.SIGTERM)


async def ran(daemon: DaemonProcess) -> None:
    """The hook has run to its end, once or more often, and owes nothing."""
    query = "SELECT state FROM errands"

    def done() -> bool:
        return outcome.ask_journal(daemon.state_dir, query) == [("done",)]

    await wait_until(done, what="the hook to be done")
    runs = (daemon.root / "runs").read_text().splitlines()
    ended = (daemon.root / "ended").read_text().splitlines()
    assert 1 <= len(ended) <= len(runs) <= RUNS
    row = await daemon.file(NAME)
    assert row is not None
    assert set(ended) == set(runs) == {row["id"]}
    told = [moment["event"] for moment in row["history"]]
    assert told.count("hook.ran") == 1


async def arrive_behind_an_old_one(daemon: DaemonProcess) -> None:
    """Let the file arrive after another one had ended, and that one be long ago."""
    source = daemon.spool / NAME
    content = source.read_bytes()
    source.unlink()
    daemon.drop(OLD_NAME, b"")
    await daemon.start()
    await daemon.until_drained(files=1)
    daemon.drop(NAME, content)
    await daemon.until_drained(files=2)
    assert await daemon.stop() == 0
    with closing(sqlite3.connect(daemon.state_dir / "journal.sqlite3")) as journal:
        journal.execute(
            "UPDATE events SET at = at - ? WHERE file = (SELECT id FROM files WHERE size = 0)",
            (AGE_S,),
        )
        journal.execute("UPDATE files SET updated = updated - ? WHERE size = 0", (AGE_S,))
        journal.commit()


async def forgotten(daemon: DaemonProcess) -> None:
    """The old one is forgotten, its receipt and the file are where they were."""
    query = "SELECT count(*), sum(size = 0) FROM files LEFT JOIN events ON file = id"

    def gone() -> object:
        ((rows, old),) = outcome.ask_journal(daemon.state_dir, query)
        return rows and not old

    await wait_until(gone, what="the old file to be forgotten")
    assert outcome.files_below(daemon.spool / "failed") == {OLD_NAME, f"{OLD_NAME}.receipt.json"}


STALLED = ("call=part,action=stall,skip=1,times=1,at=65536",)
HALF = Death(at="Journal.part_stored", when="after")

PLAIN = Scene(name="plain")
SMALL = Scene(name="small", content=CONTENT[: MIB // 2], arrives=CONTENT[: MIB // 2])
WRITTEN = Scene(name="written", config={"watch": {"settle": "30s"}})
QUIET = Scene(name="quiet", config={"watch": {"settle": "3s"}})
DELETED = Scene(name="deleted", config={"watch": {"after_upload": "delete"}}, moved=False)
KEPT = Scene(name="kept", config={"watch": {"after_upload": "keep"}}, moved=False, settles=1)
TOUCHED = Scene(
    name="touched",
    config={"watch": {"after_upload": "keep"}},
    prepare=arrive_and_touch,
    moved=False,
    settles=2,
)
EMPTY = Scene(name="empty", content=b"", arrives=None, ending="failed")
NO_SESSION = Scene(name="no-session", faults=("call=create,action=refuse,status=503,times=1",))
LOCKED_OUT = Scene(name="locked-out", faults=("call=create,action=refuse,status=401,times=1",))
PART_REFUSED = Scene(name="part-refused", faults=("call=part,action=refuse,status=503,times=1",))
DEFERRED = Scene(
    name="deferred",
    faults=("call=part,action=refuse,status=503,times=1",),
    config={"retry": {"attempts": 1}},
)
REPLY_LOST = Scene(name="reply-lost", faults=("call=complete,action=lose,times=1",))
NOT_ASKED = Scene(name="not-asked", faults=("call=complete,action=cut,times=1",))
HALF_WAY = Scene(name="half-way", before=HALF)
COMPLETED = Scene(name="completed", before=Death(at="Client.complete", when="after"))
CHANGED = Scene(
    name="changed", faults=STALLED, meddle=rewrite, arrives=OTHER, sessions=2, counted=False
)
GONE = Scene(
    name="gone",
    content=CONTENT[: MIB // 2],
    faults=("call=part,action=stall,times=1,at=65536",),
    meddle=remove,
    arrives=None,
    ending="cancelled",
    settles=1,
)
EXPIRED = Scene(name="expired", faults=("call=part,action=expire,skip=1,times=1",), sessions=2)
FLIPPED_BYTES = Scene(name="flipped", before=HALF, prepare=flip, arrives=FLIPPED, content=CONTENT)
TAKEN = Scene(
    name="taken",
    before=Death(at="Filing.write_receipt", when="after"),
    prepare=take_its_place,
    filed_as="a~2.bin",
    foreign=frozenset({NAME}),
)
BLOCKED = Scene(name="blocked", prepare=block, mend=unblock)
RENAMED = Scene(
    name="renamed", faults=STALLED, meddle=rename, last_name=INNER, sessions=2, counted=False
)
RENAMED_LATE = Scene(
    name="renamed-late",
    before=Death(at="Client.complete", when="after"),
    prepare=rename_meanwhile,
    last_name=OTHER_NAME,
)

PAUSED = Scene(name="paused", faults=STALLED, meddle=say_pause, then=resume_if_paused)
LIMITED = Scene(name="limited", faults=STALLED, meddle=say_limit, then=unlimit_if_limited)
DISMISSED = Scene(
    name="dismissed",
    faults=("call=part,action=stall,skip=1,at=65536",),
    meddle=dismiss,
    then=dismiss_again,
    arrives=None,
    ending="cancelled",
    settles=1,
    moved=False,
)

WITHHELD = Scene(name="withheld", faults=STALLED, meddle=hold, then=release_if_held)
RETRIED = Scene(name="retried", content=b"", prepare=let_it_fail, meddle=retry, then=retry_if_left)
HOOKED = Scene(name="hooked", hooks=(HOOK,), prepare=let_it_end, check=ran)
HOOK_STOPPED = Scene(
    name="hook-stopped",
    config={"daemon": {"drain_timeout": "200ms"}},
    hooks=(HOOK,),
    meddle=stop_while_it_runs,
    mend=let_it_go,
    check=ran,
)
HOOK_HALF_WAY = Scene(
    name="hook-half-way",
    hooks=(HOOK,),
    before=Death(at="Errands.errand_begins", when="after"),
    prepare=let_it_end,
    check=ran,
)
OLD = Scene(name="old", prepare=arrive_behind_an_old_one, check=forgotten)

SCENES = {
    scene.name: scene
    for scene in (
        PLAIN,
        SMALL,
        WRITTEN,
        QUIET,
        DELETED,
        KEPT,
        TOUCHED,
        EMPTY,
        NO_SESSION,
        LOCKED_OUT,
        PART_REFUSED,
        DEFERRED,
        REPLY_LOST,
        NOT_ASKED,
        HALF_WAY,
        COMPLETED,
        CHANGED,
        GONE,
        EXPIRED,
        FLIPPED_BYTES,
        TAKEN,
        BLOCKED,
        RENAMED,
        RENAMED_LATE,
        PAUSED,
        LIMITED,
        DISMISSED,
        WITHHELD,
        RETRIED,
        HOOKED,
        HOOK_STOPPED,
        HOOK_HALF_WAY,
        OLD,
    )
}
