"""Following the history from inside: what each stream is given, whatever the others do."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.waiting import wait_until
from uploaderd.core.model import FileState
from uploaderd.core.reasons import reason
from uploaderd.core.selection import Selection
from uploaderd.engine import feed
from uploaderd.engine.view import CHUNK, EngineView
from uploaderd.errors import JournalError

if TYPE_CHECKING:
    from tests.engine.kit import Rig
    from uploaderd.engine.feed import Stream


def events(raw: bytes) -> list[tuple[str, str, Any]]:
    """Cut lines into events: kind, id, data."""
    found = []
    for block in raw.decode().split("\n\n"):
        fields = dict(line.partition(": ")[::2] for line in block.splitlines())
        if "data" in fields:
            found.append((fields["event"], fields.get("id", ""), json.loads(fields["data"])))
    return found


async def places(stream: Stream, count: int) -> list[int]:
    """Read until so many file events have come; give their places."""
    found: list[int] = []
    async with asyncio.timeout(20):
        while len(found) < count:
            some = await stream.next(5.0)
            assert some is not None
            found += [
                int(name.rpartition("-")[2])
                for kind, name, _ in events(some)
                if kind in {"file", "reset"}
            ]
    return found


async def until_ended(stream: Stream) -> None:
    """Read until there is nothing more."""
    async with asyncio.timeout(20):
        while await stream.next(1.0) is not None:
            pass


def write(rig: Rig, count: int, *, first: int = 0) -> None:
    """Let the history grow, a transaction a row."""
    for number in range(first, first + count):
        rig.ctx.announce(None, rig.put(f"{number}.txt"))


def view_of(rig: Rig) -> EngineView:
    """The view of an engine."""
    return EngineView(rig.engine, version="1")


async def test_a_stream_begins_with_how_it_stands(rig: Rig) -> None:
    """First the time to wait before coming again and the status; of the past there is nothing."""
    write(rig, 3)
    stream = await view_of(rig).events(None)
    raw = await stream.next(1.0)
    assert raw is not None
    era = await rig.ctx.keep(rig.journal.era, "")
    assert raw.startswith(b"retry: 2000\nid: %b-3\n\n" % era.encode())
    [(kind, name, status)] = events(raw)
    assert (kind, name) == ("status", "")
    assert status["counts"]["queued"] == 3
    write(rig, 1, first=3)
    assert await places(stream, 1) == [4]
    stream.close()


async def test_a_file_event_tells_what_and_how_it_is_now(rig: Rig) -> None:
    """The row of the history, and FILE."""
    view = view_of(rig)
    stream = await view.events(None)
    await stream.next(1.0)
    write(rig, 1)
    [(kind, name, data)] = events(await stream.next(5.0) or b"")
    assert kind == "file"
    assert name.rpartition("-")[2] == "1"
    assert data["file"] == (await view.files(Selection(), limit=1, after=None))["files"][0]  # type: ignore[index]
    assert data | {"file": None} == {
        "at": data["at"],
        "event": "found",
        "state": "queued",
        "code": "queued.slot",
        "text": data["text"],
        "id": data["file"]["id"],
        "path": data["file"]["path"],
        "file": None,
    }
    stream.close()


async def test_old_and_new_meet_without_a_seam(rig: Rig) -> None:
    """Streams that begin anywhere while rows are written have each row once and in order."""
    view = view_of(rig)
    write(rig, 40)
    first = await view.events(None)
    era = await rig.ctx.keep(rig.journal.era, "")
    reading = [asyncio.create_task(places(first, 260))]
    streams = [first]
    for start in range(0, 40, 8):
        stream = await view.events(f"{era}-{start}")
        streams.append(stream)
        reading.append(asyncio.create_task(places(stream, 300 - start)))
        for _ in range(52):
            write(rig, 1, first=40 + rig.journal.newest() - 40)
            await asyncio.sleep(0)
    assert rig.journal.newest() == 300
    found = [await one for one in reading]
    assert found == [list(range(start + 1, 301)) for start in (40, 0, 8, 16, 24, 32)]
    for stream in streams:
        stream.close()


async def test_who_falls_behind_reads_the_journal(rig: Rig) -> None:
    """A stream that the ring has left behind misses nothing, and the ring stays small."""
    view = view_of(rig)
    slow = await view.events(None)
    quick = await view.events(None)
    count = feed.RING_ROWS + 2 * feed.ROWS
    write(rig, count)
    assert await places(quick, count) == list(range(1, count + 1))
    ring = view._feed._ring
    assert len(ring.places) == len(ring.texts) <= feed.RING_ROWS
    assert ring.floor == count - len(ring.places)
    assert await places(slow, count) == list(range(1, count + 1))
    for stream in (slow, quick):
        stream.close()


@pytest.mark.parametrize(
    "last", ["", "x", "other-1", "-1", "{era}-", "{era}-x", "{era}-4", "{era}"]
)
async def test_an_id_that_was_never_given_is_told_so(rig: Rig, last: str) -> None:
    """The client must read anew; then it goes on from now, with a good id."""
    write(rig, 3)
    view = view_of(rig)
    (await view.events(None)).close()
    era = await rig.ctx.keep(rig.journal.era, "")
    stream = await view.events(last.format(era=era))
    found = events(await stream.next(1.0) or b"")
    assert [kind for kind, _, _ in found] == ["status", "reset"]
    assert found[1][1] == f"{era}-3"
    assert "read /v1/files anew" in found[1][2]["why"]
    write(rig, 1, first=3)
    assert await places(stream, 1) == [4]
    stream.close()


@pytest.mark.parametrize("place", [1, 3])
async def test_what_is_forgotten_is_not_passed_over(rig: Rig, place: int) -> None:
    """Where rows after an id are not kept, the client is told; nothing is missed silently."""
    write(rig, 6)
    with rig.journal.transaction() as db:
        db.execute("DELETE FROM events WHERE seq IN (2, 4)")
    view = view_of(rig)
    (await view.events(None)).close()
    era = await rig.ctx.keep(rig.journal.era, "")
    stream = await view.events(f"{era}-{place - 1}")
    await stream.next(1.0)
    kinds = [kind for kind, _, _ in events(await stream.next(1.0) or b"")]
    assert kinds == ["file", "reset"]
    write(rig, 1, first=6)
    assert await places(stream, 1) == [7]
    stream.close()


async def test_nothing_is_read_while_nobody_listens(rig: Rig) -> None:
    """Neither before the first stream nor after the last one."""
    asked: list[str] = []
    view = view_of(rig)
    rig.journal.connection.set_trace_callback(asked.append)
    write(rig, 3)
    await asyncio.sleep(2 * feed.GATHER_S)
    assert not [query for query in asked if "SELECT" in query and "events" in query]
    stream = await view.events(None)
    write(rig, 1, first=3)
    await stream.next(1.0)
    assert await places(stream, 1) == [4]
    stream.close()
    await asyncio.sleep(0)
    asked.clear()
    write(rig, 3, first=4)
    await asyncio.sleep(2 * feed.GATHER_S)
    assert not [query for query in asked if "SELECT" in query and "events" in query]
    assert view._feed._reading is None


async def test_the_bell_is_only_for_speed(rig: Rig) -> None:
    """A row that nobody rang for comes with the next tick."""
    stream = await view_of(rig).events(None)
    await stream.next(1.0)
    await wait_until(lambda: stream._feed.turn, what="the first tick")
    rig.put("silent.txt")
    assert await places(stream, 1) == [1]
    stream.close()


async def test_trouble_ends_the_streams_and_not_the_daemon(rig: Rig) -> None:
    """Whoever follows comes again; the next stream begins as ever."""
    view = view_of(rig)
    stream = await view.events(None)
    await stream.next(1.0)
    with rig.journal.transaction() as db:
        db.execute("ALTER TABLE events RENAME TO elsewhere")
    with pytest.raises(JournalError, match="cannot be read"):
        await until_ended(stream)
    with rig.journal.transaction() as db:
        db.execute("ALTER TABLE elsewhere RENAME TO events")
    again = await view.events(None)
    stream.close()
    await again.next(1.0)
    write(rig, 1)
    assert await places(again, 1) == [1]
    again.close()


async def test_progress_is_told_once_and_only_the_latest(rig: Rig) -> None:
    """What stands still says nothing; who was away is told how it stands now, not how it stood."""
    view = view_of(rig)
    stream = await view.events(None)
    await stream.next(1.0)
    while kinds := [kind for kind, _, _ in events(await stream.next(0.1) or b"")]:
        assert kinds == ["progress"]
    write(rig, 1)
    assert await places(stream, 1) == [1]
    turn = view._feed.turn
    await wait_until(lambda: view._feed.turn > turn, what="a tick")
    assert [kind for kind, _, _ in events(await stream.next(1.0) or b"")] == ["progress"]
    turn = view._feed.turn
    rig.clock.forward(5.0)
    await view._feed._look_at_progress()
    assert view._feed.turn == turn
    assert await stream.next(0.1) == b""
    stream.close()


async def test_an_ending_stream_hands_out_what_happened(rig: Rig) -> None:
    """The last changes before the daemon goes are not lost between two ticks."""
    stream = await view_of(rig).events(None)
    await stream.next(1.0)
    rig.put("last.txt")
    stream.end()
    assert [kind for kind, _, _ in events(await stream.next(1.0) or b"")] == ["file"]
    assert await stream.next(1.0) is None
    stream.close()


async def test_the_code_that_is_shown_is_the_code_that_is_found(rig: Rig) -> None:
    """While it is paused a queued file says so, and pages by code agree with what they show."""
    write(rig, 7)
    rig.put("held.txt", FileState.HELD, "held.auth")
    await rig.engine.operator.pause()
    view = view_of(rig)
    for code, count in (("queued.paused", 7), ("queued.slot", 0), ("queued", 7), ("held.auth", 1)):
        wanted = Selection(code=code)
        found, after = [], None
        while True:
            page: Any = await view.files(wanted, limit=3, after=after)
            found += page["files"]
            after = page["next"]
            if after is None:
                break
            assert len(page["files"]) == 3
        assert len({row["id"] for row in found}) == len(found) == count
        assert all(wanted.has_code(row["reason"]["code"]) for row in found)


async def test_a_page_is_read_on_until_something_is_found(rig: Rig) -> None:
    """The one file of that code is found behind hundreds that are shown with another."""
    rare = rig.put("rare.txt")
    rig.engine.admission.postponed[rare.id] = reason("queued.filing", detail="No")
    rig.clock.forward(1.0)
    write(rig, 2 * CHUNK + 1)
    page: Any = await view_of(rig).files(Selection(code="queued.filing"), limit=3, after=None)
    assert [row["id"] for row in page["files"]] == [rare.id]
    assert page["next"] is None
