"""The way to the service and back: the real client, but for the connection itself."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qsl, urlsplit

from tests.simulation.scenario import FATES
from uploaderd.client import Client, TargetAddress
from uploaderd.client.exchange import Reply
from uploaderd.client.replies import Reader
from uploaderd.core.retry import Call
from uploaderd.errors import TransientError

if TYPE_CHECKING:
    from random import Random

    import aiohttp

    from tests.simulation.life import Life
    from tests.simulation.loop import SimLoop
    from tests.simulation.scenario import Faults, Scenario
    from tests.simulation.service import SimService
    from tests.simulation.trace import Trace
    from uploaderd.client.sending import Outgoing

ADDRESS = TargetAddress(name="openai", base_url="http://service.example/v1")
HTML = b"<html><body><h1>502 Bad Gateway</h1></body></html>"


def _reply(status: int, body: bytes, headers: dict[str, str] | None = None) -> Reply:
    return Reply(status=status, headers=headers or {}, body=body, cut="", unasked=False)


def _error(
    status: int, message: str, code: str | None, headers: dict[str, str] | None = None
) -> Reply:
    error = {"message": message, "type": "error", "param": None, "code": code}
    return _reply(status, json.dumps({"error": error}).encode(), headers)


def _broken() -> TransientError:
    return TransientError("the connection broke", code="network", acted=True)


class NoKey:
    """A key that opens everything here."""

    def reveal(self) -> str:
        """Show it."""
        return "key"


class Network:
    """Decides about each request's fate, and carries it there and back in virtual time.

    Attributes:
        faults: how often what goes wrong; None: nothing any more.
        trouble: what the whole service suffers from now.
        planned: the fates of the next requests of each kind, in this order.
    """

    def __init__(
        self,
        scenario: Scenario,
        loop: SimLoop,
        service: SimService,
        rng: Random,
        trace: Trace,
    ) -> None:
        self.faults: Faults | None = scenario.faults
        self.trouble: set[str] = set()
        self.planned: list[tuple[Call, str]] = []
        self._asked: set[str] = set()
        self.service = service
        self._latency_s = scenario.latency_s
        self._completes_lost = scenario.completes_lost
        self._loop = loop
        self._rng = rng
        self._trace = trace

    def latency_s(self) -> float:
        """How long one way takes this time."""
        return 0.001 + self._rng.expovariate(1.0) * self._latency_s

    def fate(self, call: Call) -> str:
        """What happens to a request that leaves now."""
        for index, (planned, fate) in enumerate(self.planned):
            if planned is call:
                del self.planned[index]
                return fate
        if "outage" in self.trouble and self._rng.random() < 0.5:
            return "unsent"
        if self.faults is None:
            return "well"
        if call is Call.COMPLETE and self._rng.random() < self._completes_lost:
            return "lost_after"
        drawn = self._rng.random()
        for name in FATES:
            drawn -= getattr(self.faults, name)
            if drawn < 0:
                return "lost_before" if name == "broken_off" and call is not Call.PART else name
        return "well"

    def send(self, request: Request, fate: str) -> asyncio.Future[Reply | Exception]:
        """Carry a whole request; what comes of it is put into the future, if anything does."""
        future: asyncio.Future[Reply | Exception] = self._loop.create_future()
        there_s, back_s = self.latency_s(), self.latency_s()
        if fate == "late":
            there_s += self._rng.uniform(1.0, 90.0)
        if fate == "late_reply":
            back_s += self._rng.uniform(1.0, 90.0)
        self._loop.call_later(there_s, self._arrive, request, fate, future, back_s)
        if fate == "twice":
            again_s = there_s + self._rng.choice((0.01, 1.0, 20.0)) * self._rng.random()
            self._loop.call_later(again_s, self._arrive, request, fate, future, self.latency_s())
        return future

    def _arrive(
        self, request: Request, fate: str, future: asyncio.Future[Reply | Exception], back_s: float
    ) -> None:
        reply: Reply | Exception | None
        if request.refused:
            return  # the copy of a request that was turned away goes no further
        reply = self._gateway(request)
        request.refused = reply is not None
        reply = reply or self._fated(request, fate)
        if reply is not None:
            self._loop.call_later(back_s, self._come_back, future, reply)

    def _gateway(self, request: Request) -> Reply | None:
        """What the whole service answers while something is wrong with it."""
        if "outage" in self.trouble:
            return _reply(503, HTML)
        if "auth" in self.trouble:
            return _error(401, "Incorrect API key provided.", "invalid_api_key")
        if "quota" in self.trouble and request.call is not Call.LIST:
            return _error(429, "You exceeded your current quota.", "insufficient_quota")
        if "limit" in self.trouble:
            after = str(self._rng.choice((1, 7, 20)))
            return _error(429, "Slow down.", "rate_limit_exceeded", {"retry-after": after})
        return None

    def _fated(self, request: Request, fate: str) -> Reply | Exception | None:
        if fate == "silent":
            return None
        answer = self._answer(request, fate)
        if request.call is Call.COMPLETE:
            self._asked.add(request.upload)
        return answer

    def _answer(self, request: Request, fate: str) -> Reply | Exception | None:
        if fate == "lost_before":
            self._trace.say("network", f"{request} is lost before the service")
            return _broken() if self._rng.random() < 0.7 else None
        if fate == "wrong_before":
            return self._wrong(request, None)
        answer = self.service.answer(
            request.call.value, request.upload, request.words, request.data
        )
        reply = _reply(*answer)
        if fate == "lost_after":
            self._trace.say("network", f"the reply to {request} is lost")
            return _broken() if self._rng.random() < 0.7 else None
        return self._wrong(request, reply) if fate == "wrong_after" else reply

    def _wrong(self, request: Request, reply: Reply | None) -> Reply:
        """A reply that is not the service's; where it did act, one that hides that."""
        kinds = ["500", "502", "cut", "shape", "504"]
        if reply is None:
            kinds += ["429", "408", "409", "302", "403", "id"]
            if request.call is Call.COMPLETE and request.upload not in self._asked:
                kinds.append("md5")  # damaged on its way
        kind = self._rng.choice(kinds)
        self._trace.say("network", f"{request} gets a wrong reply: {kind}")
        if kind == "cut":
            whole = b'{"id": "upload_' if reply is None else reply.body
            return Reply(status=200, headers={}, body=whole[:7], cut="it breaks off", unasked=False)
        if kind == "id":
            body = json.dumps({"id": f"odd_{self._rng.getrandbits(30)}", "upload_id": None})
            return _reply(200, body.encode())
        if kind == "shape":
            return _reply(200, self._rng.choice((b"[]", b"{}", b"null", b'{"id": 7}')))
        return WRONG[kind]

    def _come_back(
        self, future: asyncio.Future[Reply | Exception], reply: Reply | Exception
    ) -> None:
        if not future.done():
            future.set_result(reply)


class Request:
    """What the service sees of a request; ``refused`` if a gateway turned it away."""

    def __init__(
        self, call: Call, upload: str, words: dict[str, Any], data: bytes, request_id: str
    ) -> None:
        self.call, self.upload, self.words, self.data = call, upload, words, data
        self.request_id = request_id
        self.refused = False

    def __str__(self) -> str:
        """As the trace has it."""
        return f"{self.call.value} {self.upload} ({self.request_id})"


WRONG = {
    "500": _error(500, "The server had an error.", None),
    "502": _reply(502, HTML),
    "504": _reply(504, b""),
    "429": _error(429, "Slow down.", None, {"retry-after-ms": "1500"}),
    "408": _error(408, "Timeout.", None),
    "409": _error(409, "Conflict.", None),
    "302": _reply(302, b"", {"location": "http://elsewhere.example/"}),
    "403": _error(403, "You may not.", None),
    "md5": _error(400, "The md5 checksum does not match.", None),
}


class SimClient(Client):
    """The daemon's client with this network in place of a connection."""

    def __init__(self, life: Life, network: Network, *, stall_s: float) -> None:
        session = cast("aiohttp.ClientSession", None)
        super().__init__(ADDRESS, NoKey(), stall_s=stall_s, session=session)
        self._life = life
        self._network = network
        self._stall = stall_s

    async def _ask(
        self, call: Call, method: str, url: str, body: Outgoing | None, request_id: str
    ) -> tuple[Reply, Reader]:
        del method
        life, network = self._life, self._network
        life.step("client", f"{call.value} leaves ({request_id})")
        life.checks.begins(call, request_id)
        fate = network.fate(call)
        if fate == "unsent":
            await asyncio.sleep(network.latency_s())
            raise TransientError("no connection: refused", code="network", acted=False)
        words: dict[str, Any] = {}
        data = b""
        path = urlsplit(url)
        if call is Call.PART and body is not None:
            data = await self._read(body, fate)
        elif body is not None:
            words = json.loads(body._head)
        words.update(parse_qsl(path.query))
        upload = path.path.split("/")[3] if path.path.startswith("/v1/uploads/") else ""
        request = Request(call, upload, words, data, request_id)
        life.checks.leaves(request, body)
        future = network.send(request, fate)
        try:
            async with asyncio.timeout(self._stall):
                reply = await future
        except TimeoutError:
            life.step("client", f"{call.value} stalls ({request_id})")
            raise TransientError("no byte moved", code="network", acted=True) from None
        if isinstance(reply, Exception):
            life.step("client", f"{call.value} broke ({request_id})")
            raise reply
        life.step("client", f"{call.value} got {reply.status} ({request_id})")
        reader = Reader("key")
        if reply.status not in {200, 201}:
            raise reader.refuse(call, reply)
        return reply, reader

    async def _read(self, body: Outgoing, fate: str) -> bytes:
        part = body._body
        assert part is not None
        data = b""
        async for step in part:
            data += step
            await asyncio.sleep(self._network.latency_s())
            if fate == "broken_off":
                raise TransientError("the connection broke", code="network", acted=False)
        assert len(data) == part.length
        return data
