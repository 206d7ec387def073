"""The history as it grows, for whoever follows it: one reader for all, and none for nobody.

A row of the history comes to be in ``Journal.intake`` and ``Journal.record``, after which
``Context.announce`` rings ``Wakes.news``, and in ``Journal.errand_ends``. The bell only makes it
quick: once a second the journal is asked in any case. What was read last is kept in a short ring,
and each stream knows how far it is: one that the ring has left behind reads the journal itself. So
there is no queue for each stream, no handing over from old to new, and places that grow by one
tell whether a row is missing.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec

from uploaderd import logs
from uploaderd.core.report import moment_document
from uploaderd.engine.context import wait_for
from uploaderd.engine.turns import in_turns
from uploaderd.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from uploaderd.core.report import Document
    from uploaderd.engine.context import Context
    from uploaderd.journal.following import Following, News
    from uploaderd.journal.looking import Sight
    from uploaderd.seams import Offload

log = logs.get(__name__)

RETRY_MS: Final = 2000
TICK_S: Final = 1.0
GATHER_S: Final = 0.05  # so long what comes thick and fast is collected
ROWS: Final = 250  # read at once
RING_ROWS: Final = 1000
RING_BYTES: Final = 2**22
CHUNK_BYTES: Final = 2**16
# What moves on by the clock alone is no progress.
_BY_THE_CLOCK: Final = ("expires_at", "eta_s")
_OTHER = (
    "The id is not one of this journal's history: read /v1/files anew; what happens from now on"
    " follows."
)
_FORGOTTEN = (
    "What happened after that id is not kept whole: read /v1/files anew; what happens from now on"
    " follows."
)


def lines(event: str, document: Document, *, place: str | None = None) -> bytes:
    """Write one event of a text/event-stream (html.spec.whatwg.org, "Server-sent events")."""
    head = f"event: {event}\n" + ("" if place is None else f"id: {place}\n")
    return b"%bdata: %b\n\n" % (head.encode(), msgspec.json.encode(document))


@dataclass(slots=True)
class _Ring:
    """The last rows, in order; ``floor`` is the place before the first."""

    floor: int = 0
    places: list[int] = field(default_factory=list)
    texts: list[bytes] = field(default_factory=list)
    size: int = 0

    @property
    def end(self) -> int:
        return self.places[-1] if self.places else self.floor

    def add(self, rows: list[tuple[int, bytes]]) -> None:
        self.places += [seq for seq, _ in rows]
        self.texts += [text for _, text in rows]
        self.size += sum(len(text) for _, text in rows)
        surplus, left = 0, self.size
        while len(self.places) - surplus > RING_ROWS or left > RING_BYTES:
            left -= len(self.texts[surplus])
            surplus += 1
        if surplus:
            self.floor, self.size = self.places[surplus - 1], left
            del self.places[:surplus], self.texts[:surplus]

    def after(self, seq: int) -> list[tuple[int, bytes]] | None:
        """The next rows behind a place, or None where it lies before the ring."""
        if seq < self.floor:
            return None
        start = bisect_right(self.places, seq)
        end, size = start, 0
        while end < len(self.places) and size < CHUNK_BYTES:
            size += len(self.texts[end])
            end += 1
        return list(zip(self.places[start:end], self.texts[start:end], strict=True))


class Feed:
    """Reads the history on while somebody follows it.

    Args:
        ctx: the engine's context: its bell, and its journal for the era.
        reader: whom the history is asked for, on the threads of ``look``.
        show: makes FILE.
        status: makes the status document.
    """

    def __init__(
        self,
        ctx: Context,
        reader: Following,
        look: Offload,
        show: Callable[[Sight], Document],
        status: Callable[[], Awaitable[Document]],
    ) -> None:
        self._ctx = ctx
        self._reader = reader
        self._look = look
        self._show = show
        self._status = status
        self._ring = _Ring()
        self._streams: set[Stream] = set()
        self._reading: asyncio.Task[None] | None = None
        self._era = ""
        self._shown: object = None
        self.progress = b""
        self.turn = 0  # counts the progress that was shown

    async def stream(self, last: str | None) -> Stream:
        """Follow the history from behind an id, or from now on.

        Raises:
            JournalError: the journal cannot be asked.
        """
        ctx = self._ctx
        if not self._era:
            self._era = await ctx.keep(ctx.journal.era, ctx.new_id())
        newest = await self._look(self._reader.newest)
        seq = newest if last is None else self._place(last, newest)
        place = newest if seq is None else seq
        # An id without data is kept (html.spec.whatwg.org, "Dispatch"): who is cut off before the
        # first change misses nothing either.
        first = f"retry: {RETRY_MS}\nid: {self.name(place)}\n\n".encode()
        first += lines("status", await self._status())
        if seq is None:
            first += lines("reset", {"why": _OTHER}, place=self.name(newest))
        stream = Stream(self, place, first)
        if self._reading is None or self._reading.done():  # trouble may have ended it
            self._ring = _Ring(floor=newest)
            self._reading = asyncio.create_task(self._read())
        self._streams.add(stream)
        return stream

    def leave(self, stream: Stream) -> None:
        """Nobody reads that stream any more."""
        self._streams.discard(stream)
        if not self._streams and self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def name(self, seq: int) -> str:
        """The id of a place."""
        return f"{self._era}-{seq}"

    async def after(self, seq: int) -> list[tuple[int, bytes]]:
        """The next rows behind a place; from the ring, or from the journal."""
        found = self._ring.after(seq)
        return await self.read(seq) if found is None else found

    async def read(self, seq: int) -> list[tuple[int, bytes]]:
        """The same from the journal."""
        news = await self._look(self._reader.news_after, seq, ROWS)
        texts = await in_turns(self._text, news)
        return [(one.seq, text) for one, text in zip(news, texts, strict=True)]

    async def jump(self) -> tuple[int, bytes]:
        """Go on from now, where the rows in between are not kept."""
        newest = await self._look(self._reader.newest)
        return newest, lines("reset", {"why": _FORGOTTEN}, place=self.name(newest))

    def _place(self, last: str, newest: int) -> int | None:
        era, dash, digits = last.rpartition("-")
        good = dash and era == self._era and digits.isascii() and digits.isdigit()
        if not good or len(digits) > len(str(newest)) or int(digits) > newest:
            return None
        return int(digits)

    def _text(self, news: News) -> bytes:
        shown = None if news.sight is None else self._show(news.sight)
        document = moment_document(news.moment) | {
            "id": news.file_id,
            "path": None if shown is None else shown["path"],
            "file": shown,
        }
        return lines("file", document, place=self.name(news.seq))

    async def _read(self) -> None:
        """Read on for as long as somebody follows; trouble ends the streams, not the daemon."""
        loop = asyncio.get_running_loop()
        bell, next_s = self._ctx.wakes.news, loop.time()
        try:
            while True:
                while rows := await self.read(self._ring.end):
                    self._ring.add(rows)
                    self._tell()
                    await asyncio.sleep(GATHER_S)
                if loop.time() >= next_s:
                    await self._look_at_progress()
                    next_s = loop.time() + TICK_S
                await wait_for(bell, max(next_s - loop.time(), 0.0))
        except Exception as error:  # noqa: BLE001 - whoever follows comes again
            if isinstance(error, JournalError):
                log.warning("events.broken_off", exc=None, text=str(error))
            else:
                log.error("events.broken_off", exc=error)  # noqa: TRY400 - ours
            for stream in list(self._streams):
                stream.end()

    async def _look_at_progress(self) -> None:
        document = await self._status()
        active = document["active"]
        still = document | {
            "active": [_without(row, _BY_THE_CLOCK) for row in active]  # type: ignore[attr-defined]
        }
        if still != self._shown:
            self._shown = still
            self.progress = lines("progress", document)
            self.turn += 1
            self._tell()

    def _tell(self) -> None:
        for stream in self._streams:
            stream.news.set()


class Stream:
    """How far one follower is; what it has not fetched yet is nowhere but in the journal."""

    def __init__(self, feed: Feed, seq: int, first: bytes) -> None:
        self.news = asyncio.Event()
        self._feed = feed
        self._seq = seq
        self._first = first
        self._turn = feed.turn
        self._ending = False

    async def next(self, patience_s: float) -> bytes | None:
        """What is to be sent next; nothing where nothing comes for so long; None at the end.

        Raises:
            JournalError: the journal cannot be asked.
        """
        first, self._first = self._first, b""
        if first:
            return first
        loop = asyncio.get_running_loop()
        until_s = loop.time() + patience_s
        while True:
            self.news.clear()
            rows = await (self._feed.read if self._ending else self._feed.after)(self._seq)
            if rows:
                return await self._take(rows)
            if self._ending:
                return None
            if self._turn != self._feed.turn:
                self._turn = self._feed.turn
                return self._feed.progress
            left_s = until_s - loop.time()
            if left_s <= 0:
                return b""
            try:
                async with asyncio.timeout(left_s):
                    await self.news.wait()
            except TimeoutError:
                pass

    def end(self) -> None:
        """Let it end once it has handed out what has happened until now."""
        self._ending = True
        self.news.set()

    def close(self) -> None:
        """Nobody will ask for more."""
        self._feed.leave(self)

    async def _take(self, rows: list[tuple[int, bytes]]) -> bytes:
        texts: list[bytes] = []
        for seq, text in rows:
            if seq != self._seq + 1:  # what was forgotten in between is not passed over silently
                self._seq, reset = await self._feed.jump()
                return b"".join([*texts, reset])
            self._seq = seq
            texts.append(text)
        return b"".join(texts)


def _without(row: Document, names: tuple[str, ...]) -> Document:
    return {name: value for name, value in row.items() if name not in names}
