"""What the simulator has found, each as a small history of its own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.simulation.scenario import Death, Rules, Scenario
from tests.simulation.world import play
from uploaderd.core.retry import Call

if TYPE_CHECKING:
    from tests.simulation.world import World

ONE, TWO, THREE = b"1" * 350, b"2" * 250, b"3" * 350
DAY_S = 86_400.0


def scene(**settings: object) -> Scenario:
    """A scenario in which nothing happens but what the test tells."""
    return Scenario(seed=1, producers=0, recover_twice=0.0, **settings)  # type: ignore[arg-type]


def test_a_kept_file_is_known_again_after_the_clock_was_set_back() -> None:
    """Its newer row is the one that counts, though its stamp is older: no row is made again."""
    rows: list[int] = []

    async def script(world: World) -> None:
        world.producers.put(b"x", ONE)
        await world.until("SELECT 1 FROM files WHERE filing = 'filed'")
        world.jump(-DAY_S)
        world.producers.put(b"x", TWO)
        await world.until("SELECT 1 FROM files WHERE filing = 'filed' AND size = 250")
        await asyncio.sleep(60.0)
        rows.append(len(world.rows("SELECT 1 FROM files")))

    outcome = play(scene(after_upload="keep", rescan_s=5.0), script)
    assert outcome.broken == ()
    assert rows == [2]
    assert outcome.uploaded == 2


def test_a_file_at_work_is_found_though_an_ended_one_has_the_later_stamp() -> None:
    """A path has one row at work; after the clock was set back too, and its batch is taken."""

    async def script(world: World) -> None:
        world.producers.put(b"x", ONE)
        await world.until("SELECT 1 FROM files WHERE filing = 'filed'")
        world.jump(-DAY_S)
        inode = world.disk.make(b"x")
        await asyncio.sleep(20.0)
        world.producers.put(b"y", THREE)
        await asyncio.sleep(20.0)
        world.disk.write(inode, TWO)
        world.disk.dropped(TWO)
        world.disk.close(inode)

    outcome = play(scene(rescan_s=5.0, inotify=False), script)
    assert outcome.broken == ()
    assert outcome.uploaded == 3
    assert outcome.virtual_s < 120.0


def test_a_session_is_cancelled_though_nobody_knows_how_old_it_is() -> None:
    """Another boot and a clock that was set back: cancel is asked, and not taken for expired."""

    async def script(world: World) -> None:
        world.producers.put(b"x", ONE)
        await world.until("SELECT 1 FROM uploads WHERE state = 'open'")
        world.network.trouble.add("outage")
        world.disk.unlink(b"x")
        await world.until("SELECT 1 FROM uploads WHERE state = 'cancelling'")
        world.jump(-3600.0)
        await asyncio.sleep(40.0)
        world.network.trouble.discard("outage")

    death = Death(steps=None, at_s=10.0, power=True)
    outcome = play(scene(latency_s=0.7, deaths=(death,)), script)
    assert outcome.broken == ()
    assert outcome.lives == 2


def test_a_file_that_changed_before_it_was_filed_is_uploaded_again() -> None:
    """Its size and mtime are those that arrived, but its bytes are not: they tell it apart."""

    async def script(world: World) -> None:
        world.producers.put(b"x", ONE)
        await world.until("SELECT 1 FROM requests WHERE call = 'complete'")
        world.disk.full = True
        await world.until("SELECT 1 FROM files WHERE state = 'done'")
        inode = world.disk.open(b"x")
        assert inode is not None
        world.disk.write(inode, THREE, mtime_ns=inode.mtime_ns)
        world.disk.dropped(THREE)
        world.disk.close(inode)
        await asyncio.sleep(20.0)
        world.disk.full = False

    for after in ("move", "delete"):
        outcome = play(scene(after_upload=after, latency_s=0.4), script)
        assert outcome.broken == ()
        assert outcome.uploaded == 2


def test_a_part_that_was_stored_before_a_bit_flipped_is_sent_again() -> None:
    """No time of the file changed, so only the bytes tell: what arrives is what is there now."""

    async def script(world: World) -> None:
        world.producers.put(b"x", ONE * 6)

    death = Death(steps=None, at_s=4.0)
    settings = scene(bit_rot=1.0, latency_s=0.3, parts_in_flight=1, deaths=(death,))
    outcome = play(settings, script)
    assert outcome.broken == ()
    assert outcome.uploaded == 1
    assert outcome.lives == 2


def test_a_pause_ends_a_sweep_of_cancels() -> None:
    """Sessions that are still to be cancelled wait for the resume."""

    async def script(world: World) -> None:
        for name in (b"x", b"y", b"z"):
            world.producers.put(name, ONE + name)
        await world.until("SELECT 1 FROM uploads WHERE state = 'open' LIMIT 1 OFFSET 2")
        await world.operator.pause()
        for name in (b"x", b"y", b"z"):
            world.disk.unlink(name)
        await world.until("SELECT 1 FROM uploads WHERE state = 'cancelling' LIMIT 1 OFFSET 2")
        await world.operator.resume()
        await world.until("SELECT 1 FROM requests WHERE call = 'cancel'")
        await world.operator.pause()

    outcome = play(scene(latency_s=0.7), script)
    assert outcome.broken == ()
    assert outcome.uploaded == 0


def test_a_kept_file_that_was_renamed_over_another_arrives_once() -> None:
    """The row of its former name ends, though nobody could tell it in the moment of the rename."""

    async def script(world: World) -> None:
        world.network.planned = [(Call.CREATE, "well"), (Call.CREATE, "silent")]
        world.producers.put(b"sub/x", ONE * 20)
        await world.until("SELECT 1 FROM uploads WHERE state = 'open'")
        world.producers.put(b"x", THREE)
        await world.until("SELECT 1 FROM uploads WHERE state = 'creating'")
        world.disk.rename(b"x", b"sub/x")

    settings = scene(after_upload="keep", latency_s=0.1, stall_s=20.0)
    outcome = play(settings, script)
    assert outcome.broken == ()
    assert outcome.uploaded == 1


def test_a_wait_from_before_the_clock_was_set_back_does_not_outlast_it() -> None:
    """A file's deferral was decided, but not journalled yet, when the clock was set back."""

    async def script(world: World) -> None:
        world.network.planned = [(Call.PART, "late_reply"), (Call.PART, "unsent")]
        world.producers.put(b"x", ONE)
        await world.until("SELECT 1 FROM requests WHERE call = 'part' LIMIT 1 OFFSET 1")
        await asyncio.sleep(1.0)
        world.jump(-DAY_S)

    outcome = play(scene(attempts=1, stall_s=20.0), script)
    assert outcome.broken == ()
    assert outcome.uploaded == 1
    assert outcome.virtual_s < 200.0


def test_a_session_that_began_later_than_we_count_is_cancelled() -> None:
    """The machine slept while create was on its way: the service's hour began after ours."""

    async def script(world: World) -> None:
        world.producers.put(b"x", ONE)
        await world.until("SELECT 1 FROM requests WHERE call = 'create'")
        await asyncio.sleep(0.002)
        world.clock.suspend(4000.0)

    outcome = play(scene(latency_s=0.7), script)
    assert outcome.broken == ()
    assert outcome.uploaded == 1


def test_a_file_that_changed_and_was_renamed_while_uncertain_arrives_as_it_is() -> None:
    """A rename vouches for no bytes: size and mtime are those of the content that arrived."""

    async def script(world: World) -> None:
        world.network.planned = [(Call.COMPLETE, "lost_after")]
        world.producers.put(b"x", ONE)
        await world.until("SELECT 1 FROM files WHERE state = 'uncertain'")
        inode = world.disk.open(b"x")
        assert inode is not None
        world.disk.write(inode, THREE, mtime_ns=inode.mtime_ns)
        world.disk.dropped(THREE)
        world.disk.close(inode)
        world.disk.rename(b"x", b"sub/x")

    for after in ("move", "delete"):
        rules = Rules(complete_twice=400, list_lag_s=5.0)
        outcome = play(scene(after_upload=after, rules=rules), script)
        assert outcome.broken == ()
        assert outcome.uploaded == 2


def test_twins_whose_completes_were_lost_do_not_adopt_each_other() -> None:
    """Of two files with one name and one size, each gets its own: what arrived is told apart."""

    async def script(world: World) -> None:
        world.network.planned = [(Call.COMPLETE, "lost_after")] * 2
        world.producers.put(b"x", ONE)
        await asyncio.sleep(1.0)
        world.producers.put(b"sub/x", THREE)

    outcome = play(scene(rules=Rules(complete_twice=404, list_lag_s=5.0)), script)
    assert outcome.broken == ()
    assert outcome.uploaded == 2
