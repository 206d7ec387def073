"""What a review found in hooks and in what is forgotten, each as a small story of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.engine.ended import DAY_S, done, failed, forget
from tests.engine.gates import go_on, see, table
from tests.support.waiting import wait_until
from uploaderd.config import AfterUpload, Hook, HookEvent, Watch
from uploaderd.core.errands import Errand, ErrandState, wait_s
from uploaderd.core.model import Arrival
from uploaderd.core.verbs import Verb

if TYPE_CHECKING:
    from pathlib import Path

    from tests.engine.kit import Rig

SET_BACK_S = 3 * 3_600.0


def hook(*command: str, on: HookEvent = HookEvent.DONE) -> Hook:
    """A hook with this command."""
    return Hook(on=on, command=command)


async def turn(rig: Rig) -> None:
    """Start the hooks that are due, and wait until they have ended."""
    await rig.engine._errands.step()
    await wait_until(lambda: not rig.engine._errands._running, what="the hooks' end")


def errands(rig: Rig, file_id: str) -> dict[str, Errand]:
    """What a file owes, by the program."""
    return {errand.command[0]: errand for errand in rig.journal.errands_of(file_id)}


async def test_a_hook_that_cannot_be_started_for_an_odd_reason_harms_nobody(
    rig: Rig, tmp_path: Path
) -> None:
    """It counts as an attempt and is tried again later; the engine, uploads and other hooks go on.

    A NUL in a word is no OSError; nor is a thread or memory that is not to be had.
    """
    odd, good = hook("/bin/\0sh"), hook("/bin/touch", str(tmp_path / "ran"))
    rig.ctx.hooks = (odd, good)
    await done(rig, "a")
    async with rig.at_work() as engine:
        await turn(rig)
        owed = errands(rig, "a")
        assert owed["/bin/touch"].state is ErrandState.DONE
        errand = owed["/bin/\0sh"]
        assert (errand.state, errand.attempts) == (ErrandState.OWED, 1)
        assert errand.due_s == rig.clock.wall_s + wait_s(1)
        assert "could not be started" in (errand.outcome or "")
        await turn(rig)
        assert errands(rig, "a")["/bin/\0sh"].attempts == 1
        rig.clock.forward(wait_s(1) + 1.0)
        await turn(rig)
        assert errands(rig, "a")["/bin/\0sh"].attempts == 2
        rig.put("b")
        await go_on(rig)
        assert not engine.draining
    assert table(rig)["b"] == ("b", "done.uploaded")
    assert (tmp_path / "ran").exists()


async def test_hooks_do_not_wait_as_long_as_the_clock_was_set_back(rig: Rig) -> None:
    """What was to be tried again in ten seconds is, by whatever time."""
    rig.ctx.hooks = (hook("/bin/false"),)
    await done(rig, "a")
    async with rig.at_work() as engine:
        await turn(rig)
        rig.clock.wall_s -= SET_BACK_S
        await engine._due()
        await turn(rig)
        assert errands(rig, "a")["/bin/false"].attempts == 1
        rig.clock.forward(wait_s(1) + 1.0)
        await turn(rig)
    assert errands(rig, "a")["/bin/false"].attempts == 2


async def test_what_is_owed_for_an_end_that_was_taken_back_keeps_no_file(rig: Rig) -> None:
    """A hook of a failed file that was tried again is never run, so nothing waits for it."""
    rig.ctx.keep_s = DAY_S
    rig.ctx.hooks = (hook("/bin/true", on=HookEvent.FAILED),)
    await failed(rig, "a")
    (rig.root / "failed").mkdir()
    (rig.root / "failed" / "a").write_bytes(b"mended")
    for verb in (Verb.RETRY, Verb.CANCEL):
        await rig.engine.operator.say(verb, "a")
    (rig.root / "a").unlink()
    assert errands(rig, "a")["/bin/true"].state is ErrandState.OWED
    rig.clock.forward(10 * DAY_S)
    await failed(rig, "witness")  # the newest history is always kept
    await forget(rig)
    assert table(rig).keys() == {"witness"}


def keeps(rig: Rig, after: AfterUpload) -> None:
    """What becomes of a file that arrived, from now on."""
    rig.place.settings = Watch(path=rig.root, after_upload=after)


@pytest.mark.parametrize("after", [AfterUpload.MOVE, AfterUpload.DELETE])
async def test_what_was_kept_is_never_sent_again_whatever_holds_now(
    rig: Rig, after: AfterUpload
) -> None:
    """Nor moved, nor removed: that it arrived and stays was said under the old configuration."""
    keeps(rig, AfterUpload.KEEP)
    await done(rig, "a", stays=True)
    rig.clock.forward(100.0)
    keeps(rig, after)
    async with rig.at_work():
        await see(rig, "a", arrival=Arrival.FOUND)
        await go_on(rig)
        assert rig.client.asked == []
        assert table(rig) == {"a": ("a", "done.uploaded")}
        assert (rig.root / "a").exists()
        (rig.root / "a").write_bytes(b"another content")
        await see(rig, "a", arrival=Arrival.WRITTEN)
        await go_on(rig)
    assert rig.client.count("complete") == 1
    assert not (rig.root / "a").exists()


@pytest.mark.parametrize("after", AfterUpload)
async def test_what_was_kept_is_not_forgotten_while_it_stands_there(
    rig: Rig, after: AfterUpload
) -> None:
    """Or it would be sent again; what has left the spool since is forgotten like any other."""
    rig.ctx.keep_s = DAY_S
    keeps(rig, AfterUpload.KEEP)
    await done(rig, "stays", stays=True)
    await done(rig, "left")
    keeps(rig, after)
    rig.clock.forward(10 * DAY_S)
    await failed(rig, "witness")  # the newest history is always kept
    await forget(rig)
    still = {"stays", "witness"} | ({"left"} if after is AfterUpload.KEEP else set())
    assert table(rig).keys() == still
    async with rig.at_work():
        await see(rig, "stays", arrival=Arrival.FOUND)
        await go_on(rig)
    assert rig.client.asked == []
