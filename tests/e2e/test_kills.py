"""SIGKILL at random moments, again and again: it arrives whole, once."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from tests.support import outcome
from tests.support.daemon import DaemonProcess
from tests.support.figures import report
from tests.support.waiting import wait_until
from uploaderd.emulator import Call, Emulator

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20
PARTS_IN_FLIGHT = 4
SEED = 20


async def test_one_large_file_survives_twelve_kills(tmp_path: Path) -> None:
    """96 MiB at 4 MiB/s, killed 12 times: one upload, every byte right, little sent twice."""
    kills, size = 12, 96 * MIB
    chance = random.Random(SEED)
    content = chance.randbytes(size)
    config: dict[str, dict[str, object]] = {
        "transfer": {"bandwidth": "4MiB/s", "parts_in_flight": PARTS_IN_FLIGHT}
    }
    loop = asyncio.get_running_loop()
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config=config) as daemon,
    ):
        daemon.drop("large.bin", content)
        began_s = loop.time()
        for _ in range(kills):
            await daemon.launch()
            await asyncio.sleep(chance.uniform(0.3, 3.6))  # a random moment, not a wait
            assert daemon.running
            await daemon.kill()
        assert emulator.stats.files_created == 0, "every kill hit it on its way"
        stored = sum(part.bytes for part in emulator.store.parts.values())
        await daemon.start()
        await daemon.until_drained(90)
        took_s = loop.time() - began_s

        outcome.assert_arrived(emulator, daemon, {"large.bin": content})
        assert len(outcome.uploads_with_parts(emulator)) == 1
        assert len(emulator.store.uploads) == 1 + _lost(daemon)
        twice = outcome.sent_twice(emulator, size)
        limit = kills * PARTS_IN_FLIGHT * MIB
        own = outcome.read_receipt(daemon.spool / "done" / "large.bin")["bytes_resent"]
        report(
            "one large file",
            kills=kills,
            seconds=round(took_s, 1),
            stored_at_last_kill=stored,
            bytes=size,
            bytes_received=emulator.stats.bytes_received,
            bytes_sent_twice=twice,
            parts_in_flight=PARTS_IN_FLIGHT,
            limit=limit,
            receipt_bytes_resent=own,
            uploads_with_parts=1,
            md5=outcome.md5(content),
        )
        assert twice <= limit
        assert own <= limit
        outcome.assert_counted(emulator, daemon, "large.bin")
        assert not outcome.unended(daemon.state_dir)
        assert await daemon.stop() == 0


def _lost(daemon: DaemonProcess) -> int:
    """Sessions whose ``create`` was answered to nobody."""
    query = "SELECT count(*) FROM uploads WHERE state = 'lost'"
    return int(outcome.ask_journal(daemon.state_dir, query)[0][0])


async def test_eighty_files_survive_fifteen_kills(tmp_path: Path) -> None:
    """80 files, 15 kills: each at the service exactly once, each receipt there, the spool empty."""
    kills, count = 15, 80
    chance = random.Random(SEED)
    sizes = [1, 3 * MIB, *(chance.randint(1, 3 * MIB) for _ in range(count - 2))]
    contents = {
        f"{'' if number % 4 else f'inner{number % 3}/'}{number:02}.bin": chance.randbytes(size)
        for number, size in enumerate(sizes)
    }
    config: dict[str, dict[str, object]] = {
        "transfer": {"bandwidth": "12MiB/s", "parts_in_flight": PARTS_IN_FLIGHT}
    }
    loop = asyncio.get_running_loop()
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config=config) as daemon,
    ):
        waiting = list(contents.items())
        began_s = loop.time()
        for kill in range(kills):
            await daemon.launch()
            while len(waiting) > count * (kills - 1 - kill) // kills:
                daemon.drop(*waiting.pop())
            await asyncio.sleep(chance.uniform(0.3, 1.3))  # a random moment, not a wait
            assert daemon.running
            await daemon.kill()
        assert not waiting
        arrived = emulator.stats.files_created
        assert 0 < arrived < count, "the kills hit files at every stage"
        await daemon.start()
        await daemon.until_drained(90)
        took_s = loop.time() - began_s

        outcome.assert_arrived(emulator, daemon, contents)
        assert daemon.left() == []
        assert len(outcome.uploads_with_parts(emulator)) == count
        await wait_until(lambda: not outcome.unended(daemon.state_dir), what="ended sessions")
        total = sum(sizes)
        twice = outcome.sent_twice(emulator, total)
        limit = kills * PARTS_IN_FLIGHT * MIB
        report(
            "eighty files",
            kills=kills,
            seconds=round(took_s, 1),
            files=count,
            files_at_last_kill=arrived,
            bytes=total,
            bytes_sent_twice=twice,
            limit=limit,
            completes=emulator.stats.count(Call.COMPLETE),
            lists=emulator.stats.count(Call.LIST),
        )
        assert twice <= limit
        rows = await daemon.files()
        assert len(rows) == count
        assert {row["state"] for row in rows} == {"done"}
        assert await daemon.stop() == 0
