"""What a review found in reloads, with a real daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.daemon import DaemonProcess, Table
from tests.support.outcome import assert_arrived
from tests.support.waiting import wait_until
from uploaderd.emulator import Call, Emulator

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20
SLOW: dict[str, Table] = {"transfer": {"bandwidth": "1MiB/s"}}
NOBODY = "http://127.0.0.1:9/v1"


async def test_a_target_that_no_watch_names_for_a_while_keeps_its_address(tmp_path: Path) -> None:
    """As long as uploads are open there, by whatever steps it is to get another one."""
    content = bytes(3 * MIB)
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config=SLOW) as daemon,
    ):
        key = tmp_path / "key"
        key.write_text("sk-other")
        key.chmod(0o600)
        other = f'[targets.other]\nbase_url = "{NOBODY}"\napi_key_file = "{key}"\n'

        async def reload(**changes: Table) -> str:
            daemon.configure(**changes)
            daemon.config_file.write_text(daemon.config_file.read_text() + other)
            answer = await daemon.ask("/v1/reload", method="POST")
            return str(answer["error"]["message"] if "error" in answer else answer["state"])

        await daemon.start()
        daemon.drop("a.bin", content)
        await wait_until(lambda: emulator.stats.bytes_received, what="bytes of a part")
        assert await reload(watch={"target": "other"}) == "running"
        moved = await reload(watch={"target": "openai"}, target={"base_url": NOBODY})
        assert "another address" in moved
        back: Table = {"base_url": emulator.base_url}
        assert await reload(target=back, transfer={"bandwidth": "unlimited"}) == "running"
        await daemon.until_drained()
        assert emulator.stats.count(Call.CREATE) == 1
        assert_arrived(emulator, daemon, {"a.bin": content})
