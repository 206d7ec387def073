"""What has happened since the emulator started: each request, and the sums over them."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from uploaderd.emulator.faults import Call

if TYPE_CHECKING:
    from collections.abc import Callable

LOG_LENGTH = 100_000


class Outcome(StrEnum):
    """How a request ended."""

    OPEN = "open"  # not yet
    ANSWERED = "answered"  # a status was sent
    CUT = "cut"  # a fault broke the connection before acting
    LOST = "lost"  # the service acted, and a fault broke the connection before the reply
    GONE = "gone"  # the client went away


@dataclass(slots=True, kw_only=True)
class RequestRecord:
    """One request.

    Attributes:
        bytes_received: of the body's payload, without multipart framing.
        chunked: whether the body came without a Content-Length.
        faults: the specs of the faults that struck it.
    """

    number: int
    call: Call
    at_s: float
    upload_id: str = ""
    part_id: str = ""
    file_id: str = ""
    client_request_id: str = ""
    request_id: str = ""
    bytes_received: int = 0
    chunked: bool = False
    status: int | None = None
    outcome: Outcome = Outcome.OPEN
    faults: tuple[str, ...] = ()


class Stats:
    """Counters and the log of requests, for tests to assert on."""

    def __init__(self) -> None:
        self.requests: deque[RequestRecord] = deque(maxlen=LOG_LENGTH)
        self.counts: Counter[tuple[Call, str]] = Counter()
        self.received: Counter[str] = Counter()
        self.bytes_received = 0
        self.uploads_created = 0
        self.files_created = 0
        self._begun = 0
        self._waiters: list[asyncio.Future[None]] = []

    def begin(self, call: Call, *, at_s: float) -> RequestRecord:
        """Note that a request has arrived."""
        self._begun += 1
        record = RequestRecord(number=self._begun, call=call, at_s=at_s)
        self.requests.append(record)
        self.changed()
        return record

    def receive(self, record: RequestRecord, count: int) -> None:
        """Note that bytes of a body have arrived; those of parts and files are summed up."""
        record.bytes_received += count
        if record.call in {Call.PART, Call.UPLOAD_FILE}:
            self.bytes_received += count
            if record.upload_id:
                self.received[record.upload_id] += count
        self.changed()

    def end(self, record: RequestRecord, outcome: Outcome, status: int | None) -> None:
        """Note how a request ended; only the first end counts."""
        if record.outcome is Outcome.OPEN:
            record.outcome = outcome
            record.status = status
            self.counts[record.call, str(status) if status is not None else outcome.value] += 1
            self.changed()

    def count(
        self, call: Call | str = Call.ANY, status: int | None = None, *, upload_id: str = ""
    ) -> int:
        """Count the requests, open ones included, that match."""
        return sum(
            1
            for one in self.requests
            if call in {Call.ANY, one.call}
            and (status is None or one.status == status)
            and (not upload_id or one.upload_id == upload_id)
        )

    def part_attempts(self, upload_id: str) -> list[RequestRecord]:
        """Return every request that brought or began to bring a part of the upload."""
        return [
            one for one in self.requests if one.call is Call.PART and one.upload_id == upload_id
        ]

    async def until(self, condition: Callable[[Stats], object]) -> None:
        """Wait until `condition(stats)` holds; wrap it in asyncio.timeout for a bound."""
        while not condition(self):
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter

    def changed(self) -> None:
        """Wake those who wait for a condition."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
