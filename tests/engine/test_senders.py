"""How many parts fly to each target, and who waits for a turn."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.engine.gates import Gate
from tests.engine.kit import soon
from tests.support.waiting import wait_until
from uploaderd.config import Transfer
from uploaderd.core.events import Admitted
from uploaderd.engine.context import Service
from uploaderd.engine.view import EngineView
from uploaderd.errors import TargetBlockedError, TransientError

if TYPE_CHECKING:
    from tests.engine.kit import Rig

pytestmark = pytest.mark.asyncio

REFUSED = TransientError("too many requests", code="rate_limited", status=429)
BUSY = TransientError("busy", code="server_error", status=503)
FAULT = TransientError("a fault", code="server_error", status=500)
TOO_LARGE = TargetBlockedError("too large", code="part_too_large", status=413)
BROKE = TransientError("the connection broke", code="network")


async def fly(rig: Rig, *, places: int | None, files: int, target: str = "openai") -> None:
    """Let so many files of one part each be on their way; the service answers none of them yet."""
    rig.ctx.transfer = Transfer(files_in_flight=99, parts_in_flight=places)
    rig.engine.senders.resize()
    service = rig.ctx.services[target]
    for number in range(files):
        file = rig.session(rig.put(f"{target}{number}", target=target))
        rig.engine._begin(service, await rig.ctx.apply(file, Admitted()))
    await soon()


async def test_a_part_that_comes_back_keeps_to_what_was_halved(rig: Rig) -> None:
    """Of four that were refused two are under way again; the others wait for their turn."""
    rig.client.held["part"] = asyncio.Event()
    rig.client.errors["part"] = REFUSED
    async with rig.at_work():
        await fly(rig, places=4, files=4)
        await wait_until(lambda: rig.client.count("part") == 4, what="four parts")
        rig.clock.forward(1.0)
        first, rig.client.held["part"] = rig.client.held["part"], asyncio.Event()
        first.set()
        await wait_until(lambda: rig.client.count("part") >= 6, what="two of them again")
        await soon()
        assert rig.client.count("part") == 6
        assert rig.service.link.flight.limit == 2
        del rig.client.errors["part"]
        rig.client.held["part"].set()
        await rig.idle()
    assert [rig.at(f"openai{n}").state for n in range(4)] == ["done"] * 4
    assert rig.engine.senders.in_flight == rig.service.link.flying == 0


@pytest.mark.parametrize(
    ("error", "limit", "code"),
    [
        (REFUSED, 2, "rate_limited"),
        (BUSY, 2, "overloaded"),
        (BROKE, 2, "broken"),
        (FAULT, 4, "configured"),
    ],
)
async def test_what_speaks_of_the_way_there_halves(
    rig: Rig, error: TransientError, limit: int, code: str
) -> None:
    """429, 503, a stall or a broken connection; a fault of the service's own does not."""
    rig.ctx.retry = replace(rig.ctx.retry, attempts=1)
    rig.client.errors["part"] = error
    async with rig.at_work():
        await fly(rig, places=4, files=4)
        await wait_until(lambda: not rig.engine.senders.in_flight, what="their end")
    view = EngineView(rig.engine, version="1")
    shown = (await view.status())["targets"]
    assert isinstance(shown, list)
    told = shown[0]["parts_in_flight"]
    assert (told["limit"], told["most"], told["code"]) == (limit, 4, code)


async def test_each_target_has_a_network_of_its_own(rig: Rig) -> None:
    """Trouble with one halves that one alone, and the number over all files holds for both."""
    rig.client.held["part"] = rig.other.held["part"] = asyncio.Event()
    async with rig.at_work():
        await fly(rig, places=4, files=2)
        await fly(rig, places=4, files=4, target="other")
        await wait_until(
            lambda: rig.client.count("part") + rig.other.count("part") == 4, what="four parts"
        )
        await soon()
        assert rig.engine.senders.in_flight == 4
        rig.engine.senders.troubled(rig.ctx.services["other"], BUSY, rig.clock.boot_s)
        assert rig.ctx.services["other"].link.flight.limit == 2
        assert rig.service.link.flight.limit == 4
        rig.client.held["part"].set()
        await rig.idle()
    assert rig.at("other3").state == "done"


async def test_with_auto_more_parts_fly_as_soon_as_more_may(rig: Rig) -> None:
    """Four to begin with; what waits is sent when the link was found to be worth more."""
    rig.client.held["part"] = asyncio.Event()
    async with rig.at_work():
        await fly(rig, places=None, files=9)
        await wait_until(lambda: rig.client.count("part") == 4, what="four parts")
        assert rig.service.link.flying == 4
        for _ in range(100):
            rig.clock.forward(0.01)
            rig.engine.senders.moved(rig.service, 1 << 20)
        await wait_until(lambda: rig.client.count("part") == 8, what="eight parts")
        assert rig.service.link.flight.limit == 8
        rig.client.held["part"].set()
        await rig.idle()


async def test_a_configured_bandwidth_that_is_used_up_keeps_the_number(rig: Rig) -> None:
    """More parts could carry no more, so none are tried."""
    rig.client.held["part"] = asyncio.Event()
    table = rig.ctx.transfer.bandwidth
    limited = type(table)(entries=((0, 1_000_000),))
    async with rig.at_work():
        await fly(rig, places=None, files=9)
        rig.ctx.transfer = replace(rig.ctx.transfer, bandwidth=limited)
        for _ in range(1_000):
            rig.clock.forward(0.01)
            rig.ctx.meter.add(10_000, rig.clock.boot_s)
            rig.engine.senders.moved(rig.service, 10_000)
        assert rig.service.link.flight.limit == 4
        assert rig.service.link.flight.why == "bandwidth"
        rig.client.held["part"].set()
        await rig.idle()


async def test_a_new_session_takes_the_part_size_that_was_measured(rig: Rig) -> None:
    """And the journal keeps it: a session that is taken up goes on with its own."""
    rig.service.link.stored(5 << 20, 0.0, 5.0)
    rig.put("big", content=bytes(41 << 20))
    rig.client.held["part"] = asyncio.Event()
    async with rig.at_work():
        await rig.turn()
        await wait_until(lambda: rig.client.count("part") > 0, what="a part")
        upload = rig.journal.upload(rig.at("big").upload or "")
        assert upload is not None
        assert upload.part_bytes == 10 << 20
        rig.client.held["part"].set()
        await rig.idle()


async def test_a_refusal_outweighs_a_line_that_broke_while_it_was_written_down(rig: Rig) -> None:
    """One part is refused for good, the other ends before that is known: the file is held."""
    rig.ctx.transfer = Transfer(files_in_flight=2, parts_in_flight=2, part_bytes=1 << 20)
    rig.engine.senders.resize()
    rig.ctx.keep = late = Gate(rig.journal.part_not_stored, early=True)
    both = rig.client.held["part"] = asyncio.Event()

    def answer() -> None:
        if rig.client.count("part"):
            rig.client.errors["part"] = BROKE if "part" in rig.client.errors else TOO_LARGE

    rig.client.meanwhile = answer
    rig.put("two", content=bytes(2 << 20))
    async with rig.at_work():
        await rig.turn()
        await wait_until(lambda: rig.client.count("part") == 2, what="both parts")
        both.set()
        await late.reached()
        await soon()
        assert rig.at("two").state == "uploading"
        late.go.set()
        await rig.idle()
    assert (rig.at("two").state, rig.at("two").reason.code) == ("held", "held.part_too_large")


async def test_the_fewer_files_the_further_ahead_goes_the_md5(rig: Rig) -> None:
    """They share what may lie in the page cache, within bounds."""
    shares = []
    rig.client.held["part"] = rig.other.held["part"] = asyncio.Event()
    async with rig.at_work() as engine:
        for target, files in (("openai", 2), ("other", 3)):
            rig.ctx.cached_bytes = 256 << 20
            await fly(rig, places=9, files=files, target=target)
            shares.append(engine.senders.ahead_bytes >> 20)
        rig.ctx.cached_bytes = 100 << 30
        shares.append(engine.senders.ahead_bytes >> 20)
        rig.client.held["part"].set()
        await rig.idle()
    assert shares == [128, 64, 512]


async def test_a_stop_lets_no_part_begin_that_waited_for_its_turn(rig: Rig) -> None:
    """What comes back after a refusal is left as it is for the next start."""
    rig.client.held["part"] = asyncio.Event()
    rig.client.errors["part"] = REFUSED
    async with rig.at_work() as engine:
        await fly(rig, places=4, files=4)
        await wait_until(lambda: rig.client.count("part") == 4, what="four parts")
        first, rig.client.held["part"] = rig.client.held["part"], asyncio.Event()
        first.set()
        await wait_until(lambda: rig.client.count("part") >= 6, what="two of them again")
        drained = asyncio.create_task(engine.drain(30.0))
        await soon()
        rig.client.held["part"].set()
        assert await drained
        await soon()
        assert rig.client.count("part") == 6


async def test_a_target_that_left_and_came_back_keeps_no_old_part_waiting(rig: Rig) -> None:
    """Its parts from before go by the network that they began with."""
    senders, former = rig.engine.senders, rig.service
    former.link.flight = replace(former.link.flight, limit=1)
    later = Service(name=former.name, flavour=former.flavour, client=rig.other)  # type: ignore[arg-type]
    rig.ctx.services[former.name] = later
    async with asyncio.timeout(5.0), senders.turn(later), senders.turn(former):
        assert (former.link.active, later.link.active) == (1, 1)
