"""A target that is limited, shut or probed: who waits, who leaves, and who is not held up by it.

Each was found by a review, and is a small story of its own.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.engine.kit import soon
from tests.support.waiting import wait_until
from uploaderd.core.events import Cancelled
from uploaderd.core.gate import Gate, GateState
from uploaderd.core.model import FileState
from uploaderd.engine import calls
from uploaderd.engine.handling import HANDLERS
from uploaderd.engine.janitor import MOST, Janitor
from uploaderd.errors import TargetBlockedError, TransientError

if TYPE_CHECKING:
    from tests.engine.kit import Rig

NO_REPLY = TransientError("no reply", code="network")
SLOW_DOWN = TransientError("slow down", code="rate_limited", status=429, retry_after_s=60.0)
NOT_NOW = TransientError("not now", code="rate_limited", status=429, retry_after_s=3_600.0)
WRONG_KEY = TargetBlockedError("wrong key", code="auth", status=401)
BUSY = TransientError("busy", code="conflict", status=409)


async def test_a_probe_that_is_told_to_wait_is_the_last_request_until_then(rig: Rig) -> None:
    """A 429 to the probe of a shut target holds all files until the time that it names."""
    for n in range(6):
        rig.put(f"{n}")
    rig.client.errors["create"] = SLOW_DOWN
    rig.service.gate = Gate().shut("outage", "No.", rig.clock.wall_s).probing()
    async with rig.at_work():
        for _ in range(6):
            await rig.turn()
            await rig.idle()
        assert rig.client.count("create") == 1
        assert rig.service.gate.state is GateState.LIMITED
        rig.clock.forward(59.0)
        await rig.turn()
        assert rig.client.count("create") == 1
        rig.clock.forward(2.0)
        await rig.turn()
        await rig.idle()
        assert rig.client.count("create") > 1


async def test_a_429_that_names_no_time_is_a_pause_all_the_same(rig: Rig) -> None:
    """Whoever asks for a pause without saying how long gets a short one, from all files."""
    for gate in (Gate(), Gate().shut("outage", "No.", rig.clock.wall_s).probing()):
        rig.service.gate = gate
        calls.note(rig.ctx, rig.service, TransientError("slow", code="rate_limited", status=429))
        assert not rig.service.gate.admits(rig.clock.wall_s)
        assert rig.service.gate.admits(rig.clock.wall_s + 10.0)


@pytest.mark.parametrize("error", [NO_REPLY, WRONG_KEY])
async def test_an_outage_does_not_shorten_the_wait_that_was_asked_for(
    rig: Rig, error: TransientError | TargetBlockedError
) -> None:
    """A target that shuts while it asked for 600 s is not probed before they are over."""
    until_s = rig.clock.wall_s + 600.0
    rig.service.gate = Gate().limited(until_s)
    for _ in range(8):
        calls.note(rig.ctx, rig.service, error)
    assert rig.service.gate.state is GateState.SHUT
    assert rig.service.gate.until_s == until_s


@pytest.mark.parametrize("call", ["create", "part", "complete"])
async def test_an_attempt_that_waited_while_its_target_shut_does_not_leave(
    rig: Rig, call: str
) -> None:
    """What slept before its next attempt looks at the gate once more."""
    file = rig.put("x")
    if call != "create":
        rig.session(file, stored=call == "complete")
    rig.client.errors[call] = NO_REPLY
    rig.client.meanwhile = rig.ctx.go.clear
    async with rig.at_work() as engine:
        await engine._admit()
        await wait_until(lambda: not rig.ctx.go.is_set(), what="the first attempt")
        await soon()
        assert rig.client.count(call) == 1
        rig.service.gate = Gate().shut("auth", "No.", rig.clock.wall_s)
        rig.client.errors.clear()
        rig.client.meanwhile = lambda: None
        rig.ctx.go.set()
        await rig.idle()
    assert rig.client.count(call) == 1


@pytest.mark.parametrize("error", [NOT_NOW, WRONG_KEY])
async def test_a_target_that_takes_nothing_gives_its_places_back(
    rig: Rig, error: TransientError | TargetBlockedError
) -> None:
    """Files of a target that is shut, or limited for long, make room for another target's."""
    rig.session(rig.put("a"))
    rig.session(rig.put("b"))
    rig.put("c", target="other")
    rig.put("d", target="other")
    rig.client.errors["part"] = error
    rig.client.held["part"] = asyncio.Event()
    rig.other.held["create"] = asyncio.Event()
    async with rig.at_work() as engine:
        await rig.turn()
        await wait_until(lambda: rig.client.count("part"), what="a part in flight")
        assert engine.transfers.keys() == {"a", "b"}
        rig.client.held["part"].set()
        await wait_until(lambda: "a" not in engine.transfers, what="its end")
        await soon()
        await rig.turn()
        await soon()
        assert engine.transfers.keys() == {"c", "d"}
        assert rig.other.count("create") == 2
    assert rig.client.count("part") == 1
    assert rig.at("b").upload == "key-b"  # its session goes on later


@pytest.mark.parametrize("trouble", ["shut", "failing", "unknown"])
async def test_a_hundred_resting_cancels_hide_none_of_another_target(
    rig: Rig, trouble: str
) -> None:
    """Abandoned sessions that cannot be cancelled now stand in no other's way."""
    for n in range(MOST):
        file = rig.session(rig.put(f"{n}", target="gone" if trouble == "unknown" else "openai"))
        await rig.ctx.apply(file, Cancelled())
    rig.clock.forward(1.0)
    await rig.ctx.apply(rig.session(rig.put("last", target="other")), Cancelled())
    if trouble == "shut":
        rig.service.gate = Gate().shut("auth", "No.", rig.clock.wall_s)
    rig.client.errors["cancel"] = BUSY
    janitor = Janitor(rig.ctx)
    await janitor.sweep()
    if trouble == "failing":
        await janitor.sweep()
    assert rig.other.asked == [("cancel", "remote-last")]
    assert rig.client.count("cancel") == (MOST if trouble == "failing" else 0)


@pytest.mark.parametrize("silent", ["shut", "paused"])
async def test_uncertain_files_that_cannot_be_asked_for_are_left_alone(
    rig: Rig, silent: str
) -> None:
    """However many wait behind a gate or a pause, the next due file has its turn at once."""
    for n in range(2 * HANDLERS):
        await rig.uncertain(f"{n}/{n}", due_s=rig.clock.wall_s - 10.0)
    rig.put("x", FileState.DEFERRED, "deferred.network", due_s=rig.clock.wall_s)
    if silent == "shut":
        rig.service.gate = Gate().shut("auth", "No.", rig.clock.wall_s)
    else:
        await rig.engine.operator.pause()
    async with rig.at_work() as engine:
        await rig.turn()
        assert rig.at("x").state is not FileState.DEFERRED
        assert engine.handling.benched == {}
        assert rig.client.asked == []
