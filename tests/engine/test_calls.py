"""The attempts of one request: how many there are, and what ends them early."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from uploaderd.engine.calls import retrying
from uploaderd.errors import RejectedError, TransientError
from uploaderd.seams import NoTally

if TYPE_CHECKING:
    from tests.engine.kit import Rig


class Retries(NoTally):
    """Counts what is tried once more."""

    def __init__(self) -> None:
        self.count = 0

    def retried(self, target: str) -> None:
        """One more."""
        assert target == "openai"
        self.count += 1


def lost(retry_after_s: float | None = None) -> TransientError:
    """A reply that never came, or one that asks for a pause."""
    return TransientError("no reply", code="network", retry_after_s=retry_after_s)


async def made(rig: Rig, *errors: Exception) -> tuple[int, int]:
    """Let attempts fail so, one after the other; return how many began and were told of."""
    rig.ctx.tally = tally = Retries()
    left, begun = list(errors), 0
    try:
        async for attempt in retrying(rig.ctx, rig.ctx.services["openai"]):
            with attempt:
                begun += 1
                if left:
                    raise left.pop(0)
    finally:
        assert begun == tally.count + 1
        assert begun <= len(errors) + 1
    return begun, tally.count


@pytest.mark.parametrize("failures", range(4))
async def test_a_request_is_tried_until_it_succeeds(rig: Rig, failures: int) -> None:
    """And then no more."""
    rig.ctx.retry = replace(rig.ctx.retry, attempts=4)
    assert await made(rig, *[lost()] * failures) == (failures + 1, failures)


@pytest.mark.parametrize("attempts", [1, 2, 3])
async def test_the_attempts_in_a_row_are_bounded(rig: Rig, attempts: int) -> None:
    """The last one's error comes out."""
    rig.ctx.retry = replace(rig.ctx.retry, attempts=attempts)
    errors = [lost() for _ in range(attempts + 1)]
    with pytest.raises(TransientError) as caught:
        await made(rig, *errors)
    assert caught.value is errors[attempts - 1]


@pytest.mark.parametrize("before", [0, 1, 2])
async def test_what_no_attempt_can_mend_comes_out_at_once(rig: Rig, before: int) -> None:
    """Whichever attempt meets it."""
    rig.ctx.retry = replace(rig.ctx.retry, attempts=9)
    refused = RejectedError("no", code="rejected")
    with pytest.raises(RejectedError) as caught:
        await made(rig, *[lost()] * before, refused, lost())
    assert caught.value is refused


@pytest.mark.parametrize("before", [0, 1])
async def test_a_long_pause_that_was_asked_for_ends_them(rig: Rig, before: int) -> None:
    """The file is deferred for so long, and its place goes to another."""
    rig.ctx.retry = replace(rig.ctx.retry, attempts=9, max_wait_s=5.0)
    long = lost(retry_after_s=6.0)
    with pytest.raises(TransientError) as caught:
        await made(rig, *[lost()] * before, long, lost())
    assert caught.value is long


@pytest.mark.parametrize("before", [0, 1])
async def test_a_target_that_is_shut_ends_them(rig: Rig, before: int) -> None:
    """Nothing is sent to it but a probe."""
    rig.ctx.retry = replace(rig.ctx.retry, attempts=9)
    service = rig.ctx.services["openai"]
    last = lost()
    begun = 0

    async def ask() -> None:
        nonlocal begun
        async for attempt in retrying(rig.ctx, service):
            with attempt:
                begun += 1
                if begun <= before:
                    raise lost()
                service.gate = service.gate.shut("auth", "no", rig.ctx.wall_s)
                raise last

    with pytest.raises(TransientError) as caught:
        await ask()
    assert caught.value is last
    assert begun == before + 1
