"""A file's only part leaves with its session's id, or its intent is taken back."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING

from tests.engine.gates import Gate
from tests.engine.kit import soon
from tests.support.waiting import wait_until
from uploaderd.config import Transfer
from uploaderd.core.events import Admitted
from uploaderd.errors import TransientError
from uploaderd.journal import Journal

if TYPE_CHECKING:
    from tests.engine.kit import Rig

BUSY = TransientError("busy", code="server_error", status=500)


def requests(rig: Rig, name: str) -> list[tuple[object, object]]:
    """Each request for a file, and its outcome."""
    return [(r["call"], r["outcome"]) for r in rig.journal.requests(rig.at(name).id)]


def free(rig: Rig) -> bool:
    """Whether no place is taken, and nothing is on the wire."""
    senders = rig.engine.senders
    return senders.in_flight == rig.service.link.flying == 0 and rig.ctx.wire.idle.is_set()


async def begin(rig: Rig, name: str, content: bytes = b"abc") -> None:
    """Let a file be on its way."""
    file = await rig.ctx.apply(rig.put(name, content=content), Admitted())
    rig.engine._begin(rig.service, file)


def part_of(rig: Rig, name: str) -> tuple[str, int, int]:
    """The state of a file's only part, and how often and how much of it left."""
    [part] = rig.journal.parts(rig.at(name).upload or "")
    return part.state.value, part.sends, part.sent


async def test_an_only_part_is_journalled_with_its_session(rig: Rig) -> None:
    """One step of the journal keeps both before the part leaves; all places are free in the end."""
    rig.ctx.keep = opened = Gate(rig.journal.upload_opened)
    async with rig.at_work():
        await begin(rig, "a")
        await opened.reached()
        assert part_of(rig, "a") == ("in_flight", 1, 0)
        assert rig.client.count("part") == 0
        assert not free(rig)
        opened.go.set()
        await rig.idle()
    file = rig.at("a")
    assert (file.state, file.bytes_sent, file.bytes_resent) == ("done", 3, 0)
    assert file.md5 == hashlib.md5(b"abc", usedforsecurity=False).hexdigest()
    assert requests(rig, "a") == [("create", "ok"), ("part", "ok"), ("complete", "ok")]
    assert free(rig)


async def test_where_no_place_is_free_the_part_waits_for_one(rig: Rig) -> None:
    """Its intent is not journalled before it has its place."""
    rig.client.held["part"] = asyncio.Event()
    async with rig.at_work():
        await begin(rig, "a")
        await wait_until(lambda: rig.client.count("part") == 1, what="the first part")
        await begin(rig, "b")
        await wait_until(lambda: rig.client.count("create") == 2, what="the other session")
        await soon()
        assert part_of(rig, "a") == ("in_flight", 1, 0)
        assert part_of(rig, "b") == ("planned", 0, 0)
        rig.client.held["part"].set()
        await rig.idle()
    assert [rig.at(name).state for name in ("a", "b")] == ["done", "done"]
    assert free(rig)


async def test_of_several_parts_none_leaves_with_the_session(rig: Rig) -> None:
    """The senders choose among them as ever."""
    rig.ctx.transfer = Transfer(files_in_flight=2, parts_in_flight=1, part_bytes=1 << 20)
    rig.ctx.keep = opened = Gate(rig.journal.upload_opened)
    async with rig.at_work():
        await begin(rig, "a", bytes(2 << 20))
        await opened.reached()
        states = {part.state.value for part in rig.journal.parts(rig.at("a").upload or "")}
        assert states == {"planned"}
        opened.go.set()
        await rig.idle()
    assert rig.at("a").state == "done"


async def test_a_pause_keeps_the_part_from_leaving(rig: Rig) -> None:
    """The operator's word came while the session was asked for: it waits, and nothing is noted."""
    rig.client.held["create"] = asyncio.Event()
    async with rig.at_work():
        await begin(rig, "a")
        await wait_until(lambda: rig.client.count("create") == 1, what="create")
        rig.ctx.go.clear()
        rig.client.held["create"].set()
        await soon()
        assert part_of(rig, "a") == ("planned", 0, 0)
        assert rig.client.count("part") == 0
        rig.ctx.go.set()
        await rig.idle()
    assert rig.at("a").state == "done"
    assert free(rig)


async def test_what_was_seen_meanwhile_takes_the_intent_back(rig: Rig) -> None:
    """The file changed while its session's id was written down: nothing left, nothing counts."""
    rig.ctx.keep = opened = Gate(rig.journal.upload_opened)
    async with rig.at_work() as engine:
        await begin(rig, "a")
        await opened.reached()
        key = rig.at("a").upload or ""
        (rig.root / "a").write_bytes(b"other")
        await engine.transfers["a"].check_source()
        opened.go.set()
        await rig.idle()
    file = rig.at("a")
    assert (file.state, file.bytes_sent, file.bytes_resent) == ("settling", 0, 0)
    assert rig.client.count("part") == 0
    [part] = rig.journal.parts(key)
    assert (part.state, part.sends, part.sent) == ("planned", 0, 0)
    assert requests(rig, "a") == [("create", "ok"), ("part", "not_sent")]
    assert free(rig)


async def test_a_session_that_is_over_already_takes_the_intent_back(rig: Rig) -> None:
    """Its time ended while its id was written down: the part does not leave."""
    rig.ctx.keep = opened = Gate(rig.journal.upload_opened)
    async with rig.at_work():
        await begin(rig, "a")
        await opened.reached()
        rig.clock.forward(10_000.0)
        opened.go.set()
        await rig.idle()
    file = rig.at("a")
    assert (file.state, file.reason.code, file.restarts) == ("queued", "queued.again", 0)
    assert rig.client.count("part") == 0
    assert requests(rig, "a") == [("create", "ok"), ("part", "not_sent")]
    assert free(rig)


async def test_a_part_that_left_with_its_session_is_tried_again_as_any_other(rig: Rig) -> None:
    """Each attempt has its own request, and what left twice is counted."""

    def answer() -> None:
        rig.client.errors = {"part": BUSY} if rig.client.count("part") == 1 else {}

    rig.client.meanwhile = answer
    async with rig.at_work():
        await begin(rig, "a")
        await rig.idle()
    assert rig.at("a").state == "done"
    [first, second] = [outcome for call, outcome in requests(rig, "a") if call == "part"]
    assert first not in {None, "ok", "not_sent"}
    assert second == "ok"
    assert free(rig)


async def test_a_stop_waits_for_a_part_that_was_journalled_as_leaving(rig: Rig) -> None:
    """Between its session's reply and its own nothing ends: its outcome would be unknown."""
    rig.ctx.keep = opened = Gate(rig.journal.upload_opened)
    rig.client.held["part"] = asyncio.Event()
    async with rig.at_work() as engine:
        await begin(rig, "a")
        await opened.reached()
        drained = asyncio.create_task(engine.drain(15.0))
        await asyncio.sleep(0)
        opened.go.set()
        await wait_until(lambda: rig.client.count("part") == 1, what="the part")
        await soon()
        assert not drained.done()
        rig.client.held["part"].set()
        assert await drained
        assert part_of(rig, "a") == ("stored", 1, 3)


async def test_between_two_attempts_nothing_is_on_the_wire(rig: Rig) -> None:
    """A part that waits to be tried again keeps no stop waiting, however it left at first."""

    def answer() -> None:
        rig.client.errors = {"part": BUSY} if rig.client.count("part") == 1 else {}
        if rig.client.errors:
            rig.ctx.go.clear()

    rig.client.meanwhile = answer
    async with rig.at_work():
        await begin(rig, "a")
        await wait_until(lambda: rig.client.count("part") == 1, what="the first attempt")
        await soon()
        assert rig.engine.senders.in_flight == 1
        assert await rig.engine.drain(5.0)


async def test_an_id_of_another_session_gives_the_place_back(rig: Rig) -> None:
    """A service that gives one id twice costs no place, and no part leaves for it."""
    async with rig.at_work():
        await begin(rig, "a")
        await rig.idle()
        known = rig.journal.upload(rig.at("a").upload or "")
        assert known is not None
        rig.journal.connection.execute(
            "UPDATE uploads SET remote_id = ? WHERE key = ?",
            (f"upload-{len(rig.client.asked) + 1}", known.key),
        )

        def wait_the_next_time() -> None:
            if rig.client.count("create") == 2:
                rig.client.held["create"] = asyncio.Event()

        rig.client.meanwhile = wait_the_next_time
        await begin(rig, "b")
        await wait_until(lambda: rig.client.count("create") == 3, what="another session")
        assert rig.engine.senders.in_flight == rig.service.link.flying == 0
        rig.client.held["create"].set()
        await rig.idle()
    assert rig.at("b").state == "done"
    assert [call for call, _ in requests(rig, "b")].count("create") == 2
    assert free(rig)


async def test_a_transfer_that_is_cancelled_while_its_session_is_kept_gives_all_back(
    rig: Rig,
) -> None:
    """Nobody knows then that the part did not leave: it counts as sent when it is taken up."""
    rig.ctx.keep = opened = Gate(Journal.upload_opened)
    async with rig.at_work() as engine:
        await begin(rig, "a")
        await opened.reached()
        engine.tasks["a"].cancel()
        await asyncio.wait(engine.tasks.values())
        assert free(rig)
    _, [part] = rig.journal.take_up("a", rig.at("a").upload or "")
    assert part.state == "ambiguous"
    assert rig.at("a").bytes_sent == 3
