"""What may have arrived at a target that is not configured any more: only that one can tell.

Each was found by a review, and is a small story of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.engine.gates import go_on, see, table
from uploaderd.config import Watch
from uploaderd.core.events import Due, Held
from uploaderd.core.model import Arrival, FileState
from uploaderd.core.reasons import reason
from uploaderd.core.verbs import Verb
from uploaderd.errors import NotApplicableError, TransientError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.engine.kit import Rig


async def in_doubt(rig: Rig) -> None:
    """A file that may have arrived at a target that is gone, in a watch that has another one."""
    await rig.uncertain("a", due_s=rig.clock.wall_s)
    del rig.ctx.services["openai"]
    rig.place.settings = Watch(path=rig.root, target="other")
    await rig.turn()
    assert table(rig) == {"a": ("a", "held.target")}


@pytest.mark.parametrize("verb", [Verb.RETRY, Verb.HOLD, Verb.RELEASE])
async def test_no_verb_sends_what_may_have_arrived_to_another_target(rig: Rig, verb: Verb) -> None:
    """It is refused with the way out; only its own target can tell."""
    async with rig.at_work():
        await in_doubt(rig)
        with pytest.raises(NotApplicableError):
            await rig.engine.operator.say(verb, "a")
        await go_on(rig)
    assert table(rig) == {"a": ("a", "held.target")}
    assert rig.other.asked == []


async def test_what_was_renamed_while_its_target_was_gone_is_found_out_once_it_is_back(
    rig: Rig,
) -> None:
    """It is the same file by any name, so its own target is asked, and no other gets it."""
    service = rig.service
    async with rig.at_work():
        await in_doubt(rig)
        (rig.root / "a").rename(rig.root / "b")
        await see(rig, "a", "b")
        await go_on(rig)
        assert table(rig) == {"a": ("b", "held.target")}
        rig.ctx.services["openai"] = service
        await go_on(rig)
    assert rig.at("a").state is FileState.DONE
    assert rig.client.asked == [("complete", "remote-a")]
    assert rig.other.asked == []


def protect(path: Path) -> None:
    """Give it other permissions."""
    path.chmod(0o600)


def link(path: Path) -> None:
    """Make one more link to it, as a backup does."""
    path.with_name("link~").hardlink_to(path)


@pytest.mark.parametrize("touch", [protect, link], ids=["chmod", "link"])
@pytest.mark.parametrize("code", ["held.target", "held.uncertain"])
async def test_what_leaves_the_content_alone_sends_nothing_that_may_have_arrived(
    rig: Rig, code: str, touch: Callable[[Path], None]
) -> None:
    """Other permissions or one link more are no other file; another content is."""
    async with rig.at_work():
        if code == "held.target":
            await in_doubt(rig)
        else:
            file = await rig.uncertain("a", due_s=rig.clock.wall_s)
            await rig.ctx.apply(file, Held(reason=reason(code, detail="No.")))
        touch(rig.root / "a")
        await see(rig, "a", arrival=Arrival.FOUND)
        await go_on(rig)
        assert table(rig) == {"a": ("a", code)}
        assert rig.client.asked == rig.other.asked == []
        (rig.root / "a").write_bytes(b"another content")
        await see(rig, "a", arrival=Arrival.WRITTEN)
        await go_on(rig)
    assert rig.at("a").state is FileState.DONE


@pytest.mark.parametrize("name", ["a", "b"])
async def test_what_is_freed_from_its_doubt_is_in_doubt_until_it_is_found_out(
    rig: Rig, name: str
) -> None:
    """A target that is back and busy has told nothing, so neither chmod nor rename sends it."""
    service = rig.service
    rig.client.errors["complete"] = TransientError("busy", code="server_error", status=503)
    async with rig.at_work():
        await in_doubt(rig)
        rig.ctx.services["openai"] = service
        await go_on(rig, 2)
        assert rig.at("a").state is FileState.UNCERTAIN
        (rig.root / "a").chmod(0o600)
        if name != "a":
            (rig.root / "a").rename(rig.root / name)
        await see(rig, "a", name)
        await go_on(rig)
        rig.client.errors.clear()
        rig.clock.forward(rig.ctx.retry.defer_max_s)
        await go_on(rig)
    assert table(rig) == {"a": (name, "done.uploaded")}
    assert rig.client.count("create") == 0
    assert rig.other.asked == []


async def test_what_waits_in_the_queue_and_may_have_arrived_waits_for_its_target(
    rig: Rig,
) -> None:
    """Not even where it was let go from its hold already does it take the watch's target."""
    async with rig.at_work():
        await in_doubt(rig)
        queued = await rig.ctx.apply(rig.at("a"), Due())
        assert queued.state is FileState.QUEUED
        await go_on(rig)
    assert table(rig) == {"a": ("a", "held.target")}
    assert rig.at("a").attempts == queued.attempts  # in one step: it was on its way at no time
    assert rig.other.asked == []
