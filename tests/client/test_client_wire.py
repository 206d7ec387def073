"""The line breaks at every byte of every call: what the client says, and what the service did."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from tests.client.stage import CALLS, staged
from tests.client.wire import Steps
from tests.support.proxy import Does, Ends, Trouble
from uploaderd.client import CreateSpec
from uploaderd.errors import TransientError

if TYPE_CHECKING:
    from pathlib import Path

ENDS = (Ends.CLOSE, Ends.RESET, Ends.HALF)


@pytest.mark.parametrize("name", CALLS)
async def test_a_request_cut_at_any_byte_was_not_acted_upon(name: str, tmp_path: Path) -> None:
    """Before its last byte has come through, the service has done nothing of it."""
    async with staged(tmp_path) as stage:
        before = stage.held()
        trouble = Trouble(does=Does.CUT_REQUEST, call=name, times=1 << 20)
        stage.proxy.plan(trouble)
        place, whole = 1, 2
        while place < whole:
            trouble.at, trouble.ends = place, ENDS[place % len(ENDS)]
            error = await stage.fails(name)
            assert isinstance(error, TransientError), place
            assert error.code == "network", place
            seen = stage.proxy.seen[-1]
            assert seen.passed == place
            whole = len(seen.head) + seen.length
            place += 1
        await stage.idle()
        assert stage.held() == before
        stage.proxy.clear()
        await stage.call(name)
        assert stage.held() != before or name == "list"


@pytest.mark.parametrize("name", CALLS)
async def test_a_reply_cut_at_any_byte_leaves_the_outcome_open(name: str, tmp_path: Path) -> None:
    """However much of it was seen, it is no success and no refusal; the service has done it."""
    async with staged(tmp_path) as stage:
        reply = (await stage.whole(name)).reply
        tries = 2 if name == "list" else 1  # a GET is asked again at once by the library
        for place in range(1, len(reply) + 1):  # from its end, for its length varies a little
            ends = ENDS[place % len(ENDS)]
            trouble = Trouble(does=Does.CUT_REPLY, call=name, at=-place, ends=ends, times=tries)
            stage.proxy.plan(trouble)
            error = await stage.fails(name)
            assert isinstance(error, TransientError), place
            assert error.code in {"network", "bad_reply"}, place
            assert error.acted or name == "list", place
            stage.proxy.clear()
        stage.proxy.plan(Trouble(does=Does.CUT_REPLY, call=name, at=2 * len(reply)))
        await stage.call(name)  # all of it and then the end is as good as ever


@pytest.mark.parametrize("does", [Does.STALL_REQUEST, Does.STALL_REPLY])
async def test_wherever_a_line_falls_silent_it_is_given_up(does: Does, tmp_path: Path) -> None:
    """In the request or in the reply, in the head or in the body: no byte moves, so it ends."""
    places = (1, 100, 0.5, -1)  # as many as there are connections, so that none has to wait
    async with staged(tmp_path, stall_s=0.5) as stage:
        stage.proxy.plan(*(Trouble(does=does, call="part", at=at) for at in places))
        errors = await asyncio.gather(*(stage.fails("part") for _ in places))
        assert {error.code for error in errors} == {"network"}
        assert all("no byte moved" in str(error) for error in errors)
        assert not stage.proxy.unspent


async def test_a_line_just_fast_enough_is_never_given_up(tmp_path: Path) -> None:
    """A part takes several stall times and is sent once: what counts is that bytes move."""
    stall_s, rate_bps, size = 0.8, 256 * 1024, 512 * 1024
    async with staged(tmp_path, stall_s=stall_s, receive_bytes=16 * 1024) as stage:
        remote = await stage.client.create(
            CreateSpec(
                filename="b.bin",
                purpose="user_data",
                size=size,
                mime_type="application/octet-stream",
                expires_after_s=None,
            ),
            request_id="r",
        )
        stage.proxy.plan(Trouble(does=Does.SLOW, call="part", rate_bps=rate_bps))
        started = time.monotonic()
        part_id = await stage.client.add_part(remote.id, Steps([bytes(size)]), request_id="r")
        assert time.monotonic() - started > 2 * stall_s
        assert stage.emulator.store.parts[part_id].bytes == size
