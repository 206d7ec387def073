"""Killed at each effect by its number, in every story, once and again: always the same end.

``test_crash_table`` kills at the steps that have a name there; this one asks what a run's effects
are and leaves none out. Two transfers are never under way at once, so the order of effects is
nearly fixed; filing and looking go on beside them, and the kth effect of one run may be its
neighbour in the next. Each test goes on until a run outlives its k.

All of it takes minutes, and is done with ``UPLOADERD_STEPS=all``. Otherwise every ``STRIDE``th k is
tried, each test from a k of its own, and every second one of those where each play has many lives.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import time
from contextlib import AsyncExitStack
from itertools import count, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from tests.support.figures import report
from tests.support.stepping_campaign import Campaign
from tests.support.stepping_forks import ForkServer
from tests.support.stepping_scenes import RECOVERED, STORIES, UNTOUCHED, At, Held, Moment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from tests.support.stepping_scenes import Death, Played, Story

ALL = os.environ.get("UPLOADERD_STEPS") == "all"
STRIDE = 1 if ALL else 10
LEAST = {"three": 65, "lost": 35, "changed": 40, "deleted": 28}  # effects, or the hook is blind
SEED = 9
MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of our own is made in it
ENOUGH_BYTES = 256 << 20

AT_ONCE = 2

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(3600 if ALL else 300),
]
each_story = pytest.mark.parametrize("story", STORIES.values(), ids=list(STORIES))


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Path]:
    """Where the stories are played: in memory, unless all of them are to be.

    A SIGKILL loses nothing that was written, so waiting for a disk shows nothing here.
    """
    in_memory = not ALL and os.access(MEMORY, os.W_OK | os.X_OK)
    if not in_memory or shutil.disk_usage(MEMORY).free < ENOUGH_BYTES:
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="steps-", dir=MEMORY) as folder:
        yield Path(folder)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def servers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[list[ForkServer]]:
    """The parents of all daemons, who import everything once."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(ForkServer(tmp_path_factory.mktemp("forks")))
            for _ in range(AT_ONCE)
        ]


def _effects(first: int, stride: int = STRIDE) -> Iterator[int]:
    return count(1, 1) if ALL else count(first, stride)


def _report(what: str, story: Story, campaign: Campaign, began_s: float) -> None:
    seconds = round(time.monotonic() - began_s, 1)
    figures = {"plays": campaign.plays, "kills": campaign.kills, "seconds": seconds}
    report(what, story=story.name, **figures)


@pytest.mark.parametrize(("when", "first"), [("before", 1), ("after", 6)], ids=["before", "after"])
@each_story
async def test_killed_at_every_effect(
    story: Story, when: str, first: int, stage: Path, servers: list[ForkServer]
) -> None:
    """Killed before or after its kth effect, for each k until it outlives that: it arrives once."""
    campaign, began_s = Campaign(story, stage, servers), time.monotonic()
    assert await campaign.run([At(k, when)] for k in _effects(first))
    assert campaign.kills >= (LEAST[story.name] - first) // STRIDE
    _report(f"killed {when} every effect", story, campaign, began_s)


@each_story
async def test_killed_while_the_service_holds_a_request(
    story: Story, stage: Path, servers: list[ForkServer]
) -> None:
    """Killed while its nth request is there, acted upon or not or later: it arrives once."""
    campaign, began_s = Campaign(story, stage, servers), time.monotonic()
    asked: list[int] = []
    await campaign.run([[UNTOUCHED]], lambda _, played: asked.append(played.requests))
    for moment in Moment:
        await campaign.run(([Held(n, moment)] for n in range(1, asked[0] + 1)), whole=True)
    assert campaign.kills >= 2 * asked[0]  # what a fault cuts short cannot be held as well
    _report("killed in every request", story, campaign, began_s)


@each_story
async def test_killed_twice(story: Story, stage: Path, servers: list[ForkServer]) -> None:
    """Killed at its kth effect, and at one by chance in the next life: it arrives once."""
    chance, sides = random.Random(SEED), ("before", "after")
    most = LEAST[story.name] // 2
    campaign, began_s = Campaign(story, stage, servers), time.monotonic()
    assert await campaign.run(
        [At(k, sides[k // STRIDE % 2]), At(chance.randint(1, most), chance.choice(sides))]
        for k in _effects(2)
    )
    _report("killed twice", story, campaign, began_s)


@each_story
async def test_recovering_twice_is_recovering_once(
    story: Story, stage: Path, servers: list[ForkServer]
) -> None:
    """Killed again before and after each effect of its recovery: it recovers to the same rows.

    The last two of those lives end when they have recovered; all that the journal holds agrees.
    """

    def judge(_fate: Sequence[Death], played: Played) -> None:
        for one, other in pairwise(played.states):
            assert one == other

    recovery = [At(n, when, "Journal.rec") for n in (1, 2) for when in ("before", "after")]
    fates = ([At(k, "after"), *recovery, RECOVERED, RECOVERED] for k in _effects(3, 2 * STRIDE))
    campaign, began_s = Campaign(story, stage, servers), time.monotonic()
    assert await campaign.run(fates, judge)
    _report("killed in its recovery", story, campaign, began_s)
