"""The service under a real systemd: it starts, works, dies, hangs, is reloaded and stops."""

from __future__ import annotations

import asyncio
import os
import random
import time
from typing import TYPE_CHECKING

import aiohttp
import pytest

from tests.support import outcome
from tests.support.figures import report
from tests.support.scenes import half_way
from tests.support.waiting import wait_until
from uploaderd.emulator import Call

if TYPE_CHECKING:
    from tests.systemd.unit import Unit
    from uploaderd.emulator import Emulator

MIB = 1 << 20
NAME = "a.bin"
CONTENT = random.Random(4).randbytes(4 * MIB)
PARTS_IN_FLIGHT = 2
SLOW = {"parts_in_flight": PARTS_IN_FLIGHT, "bandwidth": "4MiB/s"}


def passed_s(began_s: float) -> float:
    """Seconds since then, for a report."""
    return round(time.monotonic() - began_s, 3)


def test_started_means_ready(unit: Unit) -> None:
    """`systemctl start` returns when files are taken; the process is what the unit makes of it."""
    began_s = time.monotonic()
    unit.start()
    report("start to READY", seconds=passed_s(began_s))
    assert (unit.show("ActiveState"), unit.show("WatchdogUSec")) == ("active", "1min")
    assert "daemon.ready" in unit.log()
    uid = unit.guest.run("id", "-u", "uploaderd").strip()
    assert unit.fact("Uid").split() == [uid] * 4
    assert int(unit.fact("CapEff"), 16) == 1 << 28, "CAP_LEASE, and nothing else"
    assert unit.fact("NoNewPrivs") == "1"
    assert unit.fact("Seccomp:") == "2"


async def test_a_dropped_file_is_done(unit: Unit, emulator: Emulator) -> None:
    """It arrives whole, once, with the key that systemd handed over; the group may read it."""
    unit.start()
    began_s = time.monotonic()
    unit.drop(NAME, CONTENT)
    await unit.until_done(emulator, NAME, CONTENT)
    report("dropped to done", seconds=passed_s(began_s), bytes=len(CONTENT))
    done = unit.spool / "done"
    gid = int(unit.guest.run("id", "-g", "uploaderd"))
    assert (done.stat().st_gid, done.stat().st_mode & 0o7777) == (gid, 0o2750)
    receipt = (done / f"{NAME}.receipt.json").stat()
    assert (receipt.st_gid, receipt.st_mode & 0o7777) == (gid, 0o640)


async def test_killed_it_is_restarted_and_goes_on(unit: Unit, emulator: Emulator) -> None:
    """After SIGKILL systemd starts it again, and only what was in flight is sent again."""
    unit.configure(transfer=SLOW)
    unit.start()
    unit.drop(NAME, CONTENT)
    await half_way(emulator)
    began_s = time.monotonic()
    unit.guest.run("kill", "-KILL", unit.pid)
    await unit.until("NRestarts", "1")
    await unit.until("ActiveState", "active")
    report("SIGKILL to READY", seconds=passed_s(began_s), restart_sec=3)
    await unit.until_done(emulator, NAME, CONTENT)
    assert emulator.stats.count(Call.CREATE) == 1
    assert outcome.sent_twice(emulator, len(CONTENT)) <= PARTS_IN_FLIGHT * MIB


async def test_a_hung_daemon_is_killed_and_restarted(unit: Unit, emulator: Emulator) -> None:
    """One that gives no pulse is aborted, killed and started again, and the file arrives."""
    unit.drop_in("WatchdogSec=2s", "TimeoutAbortSec=1s", "RestartSec=100ms")
    unit.configure(transfer=SLOW)
    unit.start()
    unit.drop(NAME, CONTENT)
    await half_way(emulator)
    before = unit.pid
    began_s = time.monotonic()
    unit.guest.run("kill", "-STOP", before)
    await unit.until("NRestarts", "1")
    await unit.until("ActiveState", "active")
    report("hung to READY", seconds=passed_s(began_s), watchdog_sec=2, timeout_abort_sec=1)
    assert unit.pid != before
    assert "Watchdog timeout" in unit.log()
    await unit.until_done(emulator, NAME, CONTENT)
    assert emulator.stats.count(Call.CREATE) == 1


async def test_it_tells_how_it_goes_on(unit: Unit, emulator: Emulator) -> None:
    """Idle and with a slow upload it gives its pulse, and a sentence for `systemctl status`.

    What it logs has journald's priorities.
    """
    content = CONTENT[: 3 * MIB]
    unit.drop_in("WatchdogSec=2s")
    unit.configure(transfer={"parts_in_flight": 1, "bandwidth": "512KiB/s"})
    unit.start()
    since = int(unit.show("WatchdogTimestampMonotonic"))
    await unit.until_differs("StatusText", "")
    idle = unit.show("StatusText")
    unit.drop(NAME, content)
    await unit.until_differs("StatusText", idle)
    assert f'Status: "{unit.show("StatusText")}' in unit.systemctl("status", unit.name)
    await unit.until_done(emulator, NAME, content)
    pulse = int(unit.show("WatchdogTimestampMonotonic")) - since
    assert pulse > 4_000_000, "microseconds, for two of the watchdog's times at least"
    assert unit.show("NRestarts") == "0"
    own = [entry for entry in unit.entries() if entry.get("_TRANSPORT") == "stdout"]
    ready = next(entry for entry in own if "daemon.ready" in entry["MESSAGE"])
    assert ready["PRIORITY"] == "6"
    assert not ready["MESSAGE"].startswith("<")


async def test_a_reload_loses_no_part_in_flight(unit: Unit, emulator: Emulator) -> None:
    """No byte of the file on its way is sent twice, and what was changed holds from then on."""
    unit.configure(transfer=SLOW)
    unit.start()
    before = unit.pid
    unit.drop(NAME, CONTENT)
    await half_way(emulator)
    unit.configure(transfer=SLOW, watch={"after_upload": "delete"})
    began_s = time.monotonic()
    await unit.tell("reload")
    report("reload", seconds=passed_s(began_s))
    assert unit.show("ActiveState") == "active"
    await unit.until_done(emulator, NAME, CONTENT)
    assert (unit.pid, unit.show("NRestarts")) == (before, "0")
    assert not (unit.spool / "done" / NAME).exists(), "it was to be deleted"
    assert emulator.stats.count(Call.CREATE) == 1
    assert outcome.sent_twice(emulator, len(CONTENT)) == 0


async def test_a_wrong_configuration_is_refused_on_reload(unit: Unit, emulator: Emulator) -> None:
    """`systemctl reload` fails, the log says what is wrong, and the daemon goes on as it was."""
    unit.start()
    before = unit.pid
    unit.configure(transfer={"parts_in_fligth": 2})
    code, said = unit.guest.call("systemctl", "reload", unit.name)
    assert code != 0, said
    await unit.until("ActiveState", "active")
    assert "parts_in_fligth" in unit.log()
    unit.drop(NAME, CONTENT[:MIB])
    await unit.until_done(emulator, NAME, CONTENT[:MIB])
    assert (unit.pid, unit.show("NRestarts")) == (before, "0")


async def test_sighup_reloads_too(unit: Unit) -> None:
    """Who is used to SIGHUP gets the same; systemd sees it begin and end."""
    unit.start()
    before = unit.pid
    unit.configure(transfer={"parts_in_flight": 3})
    unit.systemctl("kill", "--kill-whom=main", "--signal=HUP", unit.name)
    await wait_until(lambda: "Reloaded" in unit.log(), what="systemd to have seen it")
    assert (unit.show("SubState"), unit.pid) == ("running", before)


async def test_a_stop_drains_and_nothing_is_sent_twice(unit: Unit, emulator: Emulator) -> None:
    """Parts in flight end within the drain's time; the next start sends only the others."""
    unit.configure(transfer=SLOW)
    unit.start()
    unit.drop(NAME, CONTENT)
    await half_way(emulator)
    began_s = time.monotonic()
    await unit.tell("stop")
    report("stop with parts in flight", seconds=passed_s(began_s), drain_timeout=10)
    assert (unit.show("Result"), unit.show("ExecMainStatus")) == ("success", "0")
    assert NAME in {path.name for path in unit.spool.iterdir()}, "it was not yet done"
    unit.start()
    await unit.until_done(emulator, NAME, CONTENT)
    assert emulator.stats.count(Call.CREATE) == 1
    assert outcome.sent_twice(emulator, len(CONTENT)) == 0


async def test_a_drain_beyond_the_units_timeout_gets_its_time(
    unit: Unit, emulator: Emulator
) -> None:
    """The daemon asks for as long as its drain_timeout is, so systemd does not kill it earlier."""
    content = CONTENT[:MIB]
    unit.drop_in("TimeoutStopSec=1s")
    unit.configure(
        daemon={"drain_timeout": "50s"}, transfer={"parts_in_flight": 1, "bandwidth": "640KiB/s"}
    )
    unit.start()
    unit.drop(NAME, content)
    await half_way(emulator, stored=0)
    await unit.tell("stop")
    assert unit.show("Result") == "success", unit.log()
    assert emulator.stats.count(Call.PART, 200) == 1
    unit.start()
    await unit.until_done(emulator, NAME, content)
    assert outcome.sent_twice(emulator, len(content)) == 0


async def test_clients_wait_while_it_restarts(unit: Unit) -> None:
    """The socket stays: who asks meanwhile gets the answer of the new daemon, in time."""
    unit.drop_in("ExecStartPre=/bin/sleep 1")
    unit.start()
    socket = unit.guest.path(unit.address)
    born, before = socket.stat().st_ino, unit.pid
    restart = await unit.systemctl_later("restart", unit.name)
    await unit.until("ActiveState", "activating")
    began_s = time.monotonic()
    answers = await asyncio.gather(*(unit.ask("/v1/status") for _ in range(20)))
    report("asked while it restarts", seconds=passed_s(began_s), clients=20, start_delay=1)
    assert await restart.wait() == 0
    after = unit.pid
    assert after != before
    assert {answer["pid"] for answer in answers} == {int(after)}
    assert socket.stat().st_ino == born


async def test_asking_starts_a_daemon_that_was_stopped(unit: Unit) -> None:
    """The socket unit alone is enough; it is born with its mode, for the group."""
    unit.systemctl("start", unit.socket_name)
    assert unit.show("ActiveState") == "inactive"
    gid = int(unit.guest.run("id", "-g", "uploaderd"))
    found = os.stat(unit.guest.path(unit.address))
    assert (found.st_gid, found.st_mode & 0o777) == (gid, 0o660)
    assert (await unit.ask("/v1/status"))["pid"] == int(unit.pid)
    await unit.until("ActiveState", "active")


async def test_it_makes_its_own_socket_without_the_socket_unit(unit: Unit) -> None:
    """Where an administrator took the socket unit away there is a daemon all the same."""
    file = unit.guest.path(f"/etc/systemd/system/{unit.socket_name}")
    away = file.rename(file.with_suffix(".away"))
    unit.systemctl("daemon-reload")
    try:
        unit.start()
        assert (await unit.ask("/v1/status"))["pid"] == int(unit.pid)
        await unit.tell("stop")
        assert not unit.guest.path(unit.address).exists()
    finally:
        away.rename(file)
        unit.systemctl("daemon-reload")


async def test_a_wrong_configuration_is_no_endless_restart(unit: Unit) -> None:
    """A person has to mend it: it fails once, and the log says what."""
    unit.configure(transfer={"parts_in_fligth": 2})
    code, _ = unit.guest.call("systemctl", "start", unit.name)
    assert code != 0
    await unit.until("ActiveState", "failed")
    assert (unit.show("ExecMainStatus"), unit.show("NRestarts")) == ("78", "0")
    assert "parts_in_fligth" in unit.log()
    unit.configure()
    unit.start()
    assert (await unit.ask("/v1/status"))["state"] == "running"


async def test_a_client_of_a_daemon_that_cannot_start_is_told(unit: Unit) -> None:
    """It is tried a few times for whoever waits at the socket; then they are let go."""
    unit.drop_in("", "[Unit]", "StartLimitBurst=3")
    unit.configure(transfer={"parts_in_fligth": 2})
    unit.systemctl("start", unit.socket_name)
    with pytest.raises(aiohttp.ClientError):
        await unit.ask("/v1/status")
    await unit.until("ActiveState", "failed")
    unit.configure()
    unit.systemctl("reset-failed", unit.socket_name, unit.name)
    unit.start()
    assert (await unit.ask("/v1/status"))["pid"] == int(unit.pid)
