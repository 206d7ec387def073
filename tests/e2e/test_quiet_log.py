"""The log of a real daemon tells of changes; what lasts is told of once."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

from tests.support.daemon import DaemonProcess
from tests.support.processes import KEY
from tests.support.service import EmulatorProcess
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

CONFIG: dict[str, dict[str, object]] = {
    "daemon": {"log_level": "info", "log_format": "json"},
    "watch": {"rescan": "1s"},
}


async def test_an_outage_is_told_of_once_and_so_is_its_end(tmp_path: Path) -> None:
    """Probe after probe fails, file after file is tried again, and nothing is said twice."""
    async with (
        EmulatorProcess(tmp_path, faults=["call=create,action=refuse,status=503"]) as service,
        DaemonProcess(tmp_path, service.base_url, config=CONFIG) as daemon,
    ):
        for number in range(3):
            daemon.drop(f"{number}.txt", b"x" * 100)
        half = (daemon.spool / "half").open("wb")  # and one that is never whole
        await daemon.start()

        async def asked() -> int:
            return sum((await service.state())["requests"].get("create", {}).values())

        async def often() -> bool:
            return await asked() >= 13

        await wait_until(often, timeout_s=60, what="many probes")
        during = [json.loads(line) for line in daemon.log_text().splitlines()]
        said = Counter((one["event"], one.get("id")) for one in during)
        assert max(said.values()) == 1, said
        assert said["target.shut", None] == 1

        half.close()
        (daemon.spool / "half").unlink()
        await service.faults()
        await daemon.until_drained()
        await daemon.stop()
        whole = [json.loads(line) for line in daemon.log_text().splitlines()]
        events = Counter(one["event"] for one in whole)
        assert (events["target.open"], events["file.done"], events["target.shut"]) == (1, 3, 1)
        assert events["file.deferred"] <= 3
        # Nothing was kept back either: it was not said at all.
        assert "repeated" not in {name for one in whole for name in one}
        assert KEY not in daemon.log_text()


async def test_the_key_is_nowhere_though_everybody_speaks_of_it(tmp_path: Path) -> None:
    """A file is named after it, and the service repeats it: neither the log nor a reason does."""
    said = json.dumps({"error": {"message": f"Bad key {KEY}", "code": "nonsense"}})
    fault = f"call=create,action=refuse,status=400,header=Content-Type:application/json,body={said}"
    loud: dict[str, dict[str, object]] = {"daemon": {"log_level": "debug"}}
    async with (
        EmulatorProcess(tmp_path, faults=[fault]) as service,
        DaemonProcess(tmp_path, service.base_url, config=loud) as daemon,
    ):
        daemon.drop(f"{KEY}.txt", b"x")
        await daemon.start()
        row = await daemon.until_state(f"{KEY}.txt", "failed")
        await daemon.stop()
        assert KEY not in daemon.log_text()
        assert "path=***.txt" in daemon.log_text()
        assert "Bad key [key]" in daemon.log_text()
        assert KEY not in row["reason"]["text"]
