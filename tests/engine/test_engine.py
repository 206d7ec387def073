"""The engine's own book-keeping, where a whole daemon would need too long or too rare a mishap."""

from __future__ import annotations

import asyncio
import os
from itertools import pairwise
from typing import TYPE_CHECKING, ParamSpec, TypeVar, cast

import pytest

from tests.engine import gates
from tests.engine.kit import soon
from tests.support.waiting import wait_until
from uploaderd.client.replies import RemoteFile
from uploaderd.clock import SystemClock
from uploaderd.config import Retry, Transfer
from uploaderd.core.events import Admitted, Completed, Held, Refused, Settled
from uploaderd.core.gate import Gate, GateState
from uploaderd.core.model import (
    Arrival,
    File,
    FileState,
    Identity,
    Now,
    Upload,
    UploadState,
)
from uploaderd.core.plan import ranges
from uploaderd.core.reasons import reason
from uploaderd.core.values import replace
from uploaderd.core.verbs import Verb
from uploaderd.engine.assembling import _arrived
from uploaderd.engine.context import Context, Service
from uploaderd.engine.engine import Engine
from uploaderd.engine.parts import PartsRun
from uploaderd.errors import NotApplicableError
from uploaderd.journal import Journal
from uploaderd.source import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.engine.kit import Rig
    from uploaderd.client import Client
    from uploaderd.engine.transfer import Transfer as Transferring

P = ParamSpec("P")
T = TypeVar("T")
WATCH = "/spool"
NOBODY = cast("Client", object())  # no request leaves in these tests


async def inline(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """An offload without threads."""
    await asyncio.sleep(0)
    return function(*args, **kwargs)


@pytest.fixture
def ctx(tmp_path: Path) -> Iterator[Context]:
    """A context with a real journal, one target and no folder."""
    journal = Journal(tmp_path / "journal.sqlite3")
    journal.open()
    journal.watch([WATCH])
    context = Context(
        journal=journal,
        keep=inline,
        disk=inline,
        clock=SystemClock(),
        chance=lambda: 0.5,
        new_id=iter(map(str, range(1_000_000))).__next__,
        week_s=lambda _: 0.0,
        owner="here",
        places={},
        services={"openai": Service(name="openai", flavour="openai", client=NOBODY)},
        transfer=Transfer(),
        retry=Retry(),
    )
    context.go.set()
    yield context
    journal.close()


def put(
    ctx: Context,
    path: bytes,
    state: FileState,
    code: str,
    identity: Identity,
    due_s: float | None = None,
) -> File:
    """Put a file into the journal."""
    file = File(
        id=path.decode(),
        watch=WATCH,
        path=path,
        identity=identity,
        arrival=Arrival.RENAMED,
        target="openai",
        purpose="user_data",
        state=state,
        reason=reason(code, detail="No."),
        created_s=ctx.wall_s,
        updated_s=ctx.wall_s,
        changed_s=ctx.wall_s,
        owner="here",
        started_s=ctx.wall_s,
        due_s=due_s,
    )
    return ctx.journal.intake(WATCH, {path: identity}, lambda *_: file)[0]


class Unwell:
    """A client whose first part hangs, and whose others fail as no client may."""

    def __init__(self) -> None:
        self.parts = 0

    async def add_part(self, *_: object, **__: object) -> str:
        """Hang, or raise what is not in the tree of errors."""
        self.parts += 1
        if self.parts > 1:
            raise RuntimeError("this is not expected")
        await asyncio.sleep(60)
        return "never"


class SetClock:
    """A clock that is set by hand."""

    def __init__(self, wall_s: float, boot_s: float) -> None:
        self.wall_s, self.boot_s = wall_s, boot_s

    def now(self) -> Now:
        """As it was set."""
        return Now(wall_s=self.wall_s, boot_s=self.boot_s, boot_id="boot")


async def test_a_wall_clock_that_is_set_back_makes_nobody_wait_longer(ctx: Context) -> None:
    """A deferred file and a limited target go on after the time that was meant."""
    ctx.clock = clock = SetClock(1_000_000.0, 100.0)
    engine, service = Engine(ctx), ctx.services["openai"]
    identity = Identity(dev=1, inode=2, size=3, mtime_ns=4, ctime_ns=5)
    put(ctx, b"x", FileState.DEFERRED, "deferred.network", identity, due_s=clock.wall_s + 10)
    service.gate = service.gate.limited(clock.wall_s + 10)
    clock.wall_s, clock.boot_s = clock.wall_s - 86_400 + 1, clock.boot_s + 1
    await engine._due()
    assert ctx.journal.due(clock.wall_s, 1) == []
    assert not service.gate.admits(clock.wall_s)
    clock.wall_s, clock.boot_s = clock.wall_s + 9, clock.boot_s + 9
    assert [file.id for file in ctx.journal.due(clock.wall_s, 1)] == ["x"]
    assert service.gate.admits(clock.wall_s)


async def test_the_probe_is_a_queued_file_before_one_that_is_held(ctx: Context) -> None:
    """A file that is refused for its own sake does not keep the target shut for all the others."""
    identity = Identity(dev=1, inode=2, size=3, mtime_ns=4, ctime_ns=5)
    put(ctx, b"bad", FileState.HELD, "held.auth", identity)
    put(ctx, b"good", FileState.QUEUED, "queued.slot", replace(identity, inode=3))
    service = ctx.services["openai"]
    service.gate = Gate(state=GateState.PROBING, code="auth")
    await Engine(ctx).admission._tend_gate(service)
    assert service.gate.state is GateState.PROBING
    assert [file.id for file in ctx.journal.queued(10)] == ["good"]


async def test_the_unexpected_in_one_part_costs_no_place(ctx: Context, tmp_path: Path) -> None:
    """Whatever a part's request raises, all places are free once its file was given up."""
    path = tmp_path / "x"
    path.write_bytes(bytes(80))
    source = Source(os.open(path, os.O_RDONLY))
    file = put(ctx, b"x", FileState.UPLOADING, "uploading.parts", source.identity)
    now = ctx.clock.now()
    upload = Upload(
        key="u",
        file=file.id,
        target="openai",
        state=UploadState.CREATING,
        filename="x",
        purpose="user_data",
        size=80,
        part_bytes=10,
        created_s=now.wall_s,
        created_boot_s=now.boot_s,
        boot_id=now.boot_id,
        life_s=3_600.0,
    )
    file = ctx.journal.begin_upload(file, upload, "create")
    upload, parts = ctx.journal.upload_opened(
        upload,
        "create",
        remote_id="r",
        server_created_s=None,
        life_s=3_600.0,
        ranges=ranges(80, 10),
    )
    service, engine = ctx.services["openai"], Engine(ctx)
    service.client = cast("Client", Unwell())
    run = PartsRun(
        ctx, service, engine.senders, file=file, upload=upload, parts=list(parts), source=source
    )
    with pytest.raises(ExceptionGroup) as raised:
        await run.run()
    assert {str(error) for error in raised.value.exceptions} == {"this is not expected"}
    assert engine.senders.in_flight == 0
    source.close()


async def test_a_loop_outlives_a_fault_of_its_own(ctx: Context) -> None:
    """A step that fails unexpectedly is logged and tried again; the daemon goes on."""
    engine, wake = Engine(ctx), asyncio.Event()
    failed, went_on = asyncio.Event(), asyncio.Event()

    async def step() -> float:
        if not failed.is_set():
            failed.set()
            raise ZeroDivisionError
        went_on.set()
        return 60.0

    loop = asyncio.create_task(engine._loop("due", wake, step))
    try:
        async with asyncio.timeout(10):
            await failed.wait()
            wake.set()
            await went_on.wait()
    finally:
        loop.cancel()


async def test_a_completed_file_that_the_service_calls_an_error_is_held(ctx: Context) -> None:
    """The reply to complete may say that the file is no good: a person is told why."""
    identity = Identity(dev=1, inode=2, size=3, mtime_ns=4, ctime_ns=5)
    file = put(ctx, b"x", FileState.QUEUED, "queued.slot", identity)
    told = {"status": "error", "status_details": "The md5 does not agree."}
    remote = RemoteFile(
        id="file-1",
        filename="x",
        purpose="user_data",
        bytes=3,
        created_at=None,
        document=told,
    )
    event = _arrived(file, remote)
    assert isinstance(event, Held)
    assert event.reason.code == "held.uncertain"
    assert "The md5 does not agree." in event.reason.text
    fine = _arrived(file, replace(remote, document={"status": "uploaded"}))
    assert isinstance(fine, Completed)


async def test_a_newcomer_is_looked_at_before_a_backlog(ctx: Context) -> None:
    """Now and then the latest files come first, so that one among very many need not wait."""
    for n in range(100):
        identity = Identity(dev=1, inode=n, size=3, mtime_ns=4, ctime_ns=5)
        due_s = ctx.wall_s - 100 + n
        put(ctx, f"{n:03}".encode(), FileState.DEFERRED, "deferred.network", identity, due_s)
    now_s = ctx.wall_s
    assert [file.id for file in ctx.journal.due(now_s, 2)] == ["000", "001"]
    assert [file.id for file in ctx.journal.due(now_s, 2, latest=True)] == ["099", "098"]


async def test_a_pause_outlives_the_daemon(ctx: Context) -> None:
    """What the operator said holds for the next daemon too, until the operator says otherwise."""
    engine = Engine(ctx)
    await engine.operator.pause()
    assert not ctx.go.is_set()
    after = Engine(replace(ctx, go=asyncio.Event()))
    await after.recover()
    assert not after.ctx.go.is_set()
    assert after.senders.paused
    await after.operator.resume()
    assert after.ctx.go.is_set()
    third = Engine(replace(ctx, go=asyncio.Event()))
    await third.recover()
    assert third.ctx.go.is_set()


@pytest.mark.parametrize("probing", [False, True])
async def test_resume_probes_a_shut_target_at_once(ctx: Context, probing: bool) -> None:
    """Whoever mended it need not wait for the next probe, nor for the files that were deferred."""
    service = ctx.services["openai"]
    service.gate = Gate().shut("auth", "No.", ctx.wall_s)
    if probing:  # by its own time, and the files that could be the probe wait longer
        service.gate = service.gate.probing()
    identity = Identity(dev=1, inode=2, size=3, mtime_ns=4, ctime_ns=5)
    put(ctx, b"x", FileState.DEFERRED, "deferred.network", identity, ctx.wall_s + 600)
    await Engine(ctx).operator.resume()
    assert service.gate.state is GateState.PROBING
    assert [file.id for file in ctx.journal.due(ctx.wall_s, 1)] == ["x"]


async def test_only_what_has_not_arrived_can_be_cancelled(ctx: Context) -> None:
    """A waiting file is cancelled; what ended already, or may have arrived, is not."""
    engine = Engine(ctx)
    identity = Identity(dev=1, inode=2, size=3, mtime_ns=4, ctime_ns=5)
    put(ctx, b"x", FileState.QUEUED, "queued.slot", identity)
    gone = await engine.operator.say(Verb.CANCEL, "x")
    assert gone is not None
    assert (gone.state, gone.reason.code) == (FileState.CANCELLED, "cancelled.operator")
    assert (
        await engine.operator.say(Verb.CANCEL, "x") == gone
    )  # whoever asks twice gets the same answer
    put(ctx, b"y", FileState.QUEUED, "queued.slot", replace(identity, inode=3))
    file = ctx.journal.file("y")
    assert file is not None
    await ctx.apply(file, Admitted())
    await ctx.apply(ctx.journal.file("y") or file, Refused(reason=reason("failed.empty")))
    with pytest.raises(NotApplicableError, match="is failed"):
        await engine.operator.say(Verb.CANCEL, "y")
    assert await engine.operator.say(Verb.CANCEL, "nobody") is None


def open_session(ctx: Context, file: File, size: int) -> None:
    """Give a file a session of which nothing is stored yet."""
    now = ctx.clock.now()
    upload = Upload(
        key=f"u-{file.id}",
        file=file.id,
        target="openai",
        state=UploadState.CREATING,
        filename="x",
        purpose="user_data",
        size=size,
        part_bytes=size,
        created_s=now.wall_s,
        created_boot_s=now.boot_s,
        boot_id=now.boot_id,
        life_s=3_600.0,
    )
    ctx.journal.begin_upload(file, upload, f"create-{file.id}")
    ctx.journal.upload_opened(
        upload,
        f"create-{file.id}",
        remote_id=f"r-{file.id}",
        server_created_s=None,
        life_s=3_600.0,
        ranges=ranges(size, size),
    )


async def test_no_session_is_opened_that_could_not_end_in_time(ctx: Context) -> None:
    """At the measured rate the open one takes most of the hour, so the next one waits for it."""
    engine, started = Engine(ctx), []
    link = engine.senders.goodput
    link.begin(0.0)
    link.add(10_000, 10.0)  # 1,000 bytes a second: 3.6 MB an hour
    engine.admission._start = lambda _, file: started.append(file.id)
    small = Identity(dev=1, inode=2, size=2_000_000, mtime_ns=4, ctime_ns=5)
    put(ctx, b"open", FileState.DEFERRED, "deferred.network", small, ctx.wall_s + 60)
    file = ctx.journal.file("open")
    assert file is not None
    open_session(ctx, file, 2_000_000)
    put(ctx, b"waits", FileState.QUEUED, "queued.slot", replace(small, inode=3))
    await engine.admission.step([])
    assert started == []
    assert engine.admission.postponed["waits"].code == "queued.deadline"
    assert "2000000 bytes" in engine.admission.postponed["waits"].text
    link.add(90_000, 20.0)  # the link is better than that
    await engine.admission.step([])
    assert started == ["waits"]
    assert engine.admission.postponed == {}


async def test_a_limit_that_was_just_set_counts_before_it_is_measured(ctx: Context) -> None:
    """The link was quick until now; at 1,000 bytes a second an hour carries not even both."""
    engine, started = Engine(ctx), []
    engine.senders.goodput.begin(0.0)
    engine.senders.goodput.add(10_000_000, 10.0)
    engine.admission._start = lambda _, file: started.append(file.id)
    small = Identity(dev=1, inode=2, size=2_000_000, mtime_ns=4, ctime_ns=5)
    put(ctx, b"open", FileState.DEFERRED, "deferred.network", small, ctx.wall_s + 60)
    file = ctx.journal.file("open")
    assert file is not None
    open_session(ctx, file, 2_000_000)
    put(ctx, b"waits", FileState.QUEUED, "queued.slot", replace(small, inode=3))
    await engine.operator.limit(1_000)
    await engine.admission.step([])
    assert started == []
    assert "At 1000 bytes a second" in engine.admission.postponed["waits"].text
    await engine.operator.unlimit()
    await engine.admission.step([])
    assert started == ["waits"]


async def test_the_free_places_are_given_together(ctx: Context) -> None:
    """In one transaction; a file that went on since it was chosen takes no other's place along."""
    engine, started = Engine(ctx), []
    engine.admission._start = lambda _, file: started.append(file.id)
    identity = Identity(dev=1, inode=2, size=3, mtime_ns=4, ctime_ns=5)
    for n in range(4):
        put(ctx, b"%d" % n, FileState.QUEUED, "queued.slot", replace(identity, inode=n))
    ctx.transfer = Transfer(files_in_flight=3)
    ctx.keep = gate = gates.Gate(ctx.journal.record_all, early=True)
    giving = asyncio.create_task(engine.admission.step([]))
    await gate.reached()
    gone = ctx.journal.file("1")
    assert gone is not None
    await ctx.apply(gone, Held(reason=reason("held.operator")))
    gate.go.set()
    assert await giving == 0.0  # its place is free, so it looks again at once
    assert started == ["0", "2"]
    await engine.admission.step([])
    assert started == ["0", "2", "3"]


async def test_a_target_that_is_probed_since_they_were_chosen_gets_one_probe(rig: Rig) -> None:
    """The others go back where they were, and wait for what the probe tells."""
    rig.ctx.transfer = Transfer(files_in_flight=3)
    for name in "abc":
        rig.put(name)
    rig.client.held["create"] = asyncio.Event()
    rig.ctx.keep = gate = gates.Gate(rig.journal.record_all, early=True)
    async with rig.at_work() as engine:
        giving = asyncio.create_task(engine.admission.step([]))
        await gate.reached()
        rig.service.gate = Gate(state=GateState.PROBING)
        gate.go.set()
        await giving
        await soon()
        assert rig.client.count("create") == 1
        assert sorted(rig.at(name).state for name in "abc") == ["queued", "queued", "uploading"]
        rig.client.held["create"].set()
        await rig.idle()


async def test_no_more_places_are_given_than_are_free(ctx: Context) -> None:
    """One of three is taken, so two of four files get one."""
    engine, started = Engine(ctx), []
    engine.admission._start = lambda _, file: started.append(file.id)
    identity = Identity(dev=1, inode=2, size=3, mtime_ns=4, ctime_ns=5)
    for n in range(4):
        put(ctx, b"%d" % n, FileState.QUEUED, "queued.slot", replace(identity, inode=n))
    ctx.transfer = Transfer(files_in_flight=3)
    engine.transfers["another"] = cast("Transferring", None)
    await engine.admission.step([])
    assert started == ["0", "1"]


async def test_who_is_given_a_place_beside_it_counts_as_open(ctx: Context) -> None:
    """At the measured rate an hour carries either file, not both: the second waits."""
    engine, started = Engine(ctx), []
    engine.senders.goodput.begin(0.0)
    engine.senders.goodput.add(10_000, 10.0)
    engine.admission._start = lambda _, file: started.append(file.id)
    identity = Identity(dev=1, inode=2, size=2_000_000, mtime_ns=4, ctime_ns=5)
    for n in range(2):
        put(ctx, b"%d" % n, FileState.QUEUED, "queued.slot", replace(identity, inode=n))
    await engine.admission.step([])
    assert started == ["0"]
    assert engine.admission.postponed["1"].code == "queued.deadline"


async def test_a_loop_that_is_woken_all_the_time_keeps_its_steps_apart(ctx: Context) -> None:
    """One look serves all that ended meanwhile."""
    engine, began_s = Engine(ctx), list[float]()
    clock, wake = asyncio.get_running_loop().time, asyncio.Event()

    async def step() -> float:
        began_s.append(clock())
        wake.set()
        return 5.0

    loop = asyncio.create_task(engine._loop("due", wake, step, apart_s=0.01))
    await wait_until(lambda: len(began_s) >= 5, what="five steps")
    loop.cancel()
    assert all(later - sooner > 0.009 for sooner, later in pairwise(began_s))


async def test_a_probed_target_hides_no_other(ctx: Context) -> None:
    """While one target is probed, its backlog does not keep the files of another waiting."""
    ctx.services["other"] = Service(name="other", flavour="openai", client=NOBODY)
    ctx.services["openai"].gate = Gate(state=GateState.PROBING, code="outage")
    ctx.services["openai"].asking = 1  # the probe is under way
    identity = Identity(dev=1, inode=2, size=3, mtime_ns=4, ctime_ns=5)
    for n in range(20):
        put(ctx, b"%02d" % n, FileState.QUEUED, "queued.slot", replace(identity, inode=n))
    file = put(ctx, b"z", FileState.SETTLING, "settling.seen", replace(identity, inode=99))
    await ctx.apply(file, Settled(identity=file.identity, target="other", purpose="user_data"))
    engine, started = Engine(ctx), []
    engine.admission._start = lambda _, file: started.append(file.id)
    await engine.admission.step([])
    assert started == ["z"]


def test_a_pause_that_a_wrong_key_is_answered_with_frees_nothing() -> None:
    """A 429 to the probe of a key says nothing of the key: it stays shut, and waits for longer."""
    gate = Gate(state=GateState.PROBING, code="auth", probes=2).limited(60.0)
    assert (gate.state, gate.code, gate.until_s) == (GateState.SHUT, "auth", 60.0)
