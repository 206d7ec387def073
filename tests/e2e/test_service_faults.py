"""The service on its bad days: it is slow, refuses, breaks off, forgets, or is not there."""

from __future__ import annotations

import random
import socket
import time
from contextlib import closing
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.daemon import DaemonProcess, Table
from tests.support.outcome import assert_arrived, read_receipt
from tests.support.waiting import wait_until
from uploaderd.emulator import Call, Emulator, Outcome, rules_for
from uploaderd.emulator.objects import UploadStatus

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20
ATTEMPTS = 5  # retry.attempts
PATIENT: dict[str, Table] = {"retry": {"max_wait": "10s", "defer_max": "10s"}}
IMPATIENT: dict[str, Table] = {"transfer": {"stall_timeout": "1s"}}


def noise(count: int, seed: int = 1) -> bytes:
    """Make bytes that differ from part to part."""
    return random.Random(seed).randbytes(count)


def codes(row: dict[str, Any]) -> list[str]:
    """The reasons that a file went through."""
    return [moment["code"] for moment in row["history"]]


async def row_of(daemon: DaemonProcess, name: str) -> dict[str, Any]:
    """A file's document, which must be there."""
    row = await daemon.file(name)
    assert row is not None
    return row


def free_port() -> int:
    """A port of this machine where nobody listens."""
    with closing(socket.socket()) as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@pytest.mark.parametrize("form", ["seconds", "fraction", "milliseconds", "date"])
async def test_each_form_of_retry_after_is_kept(tmp_path: Path, form: str) -> None:
    """Told to wait, it comes back no sooner than the service asked, and then by itself."""
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config=PATIENT) as daemon,
    ):
        await daemon.start()
        header = {
            "seconds": "Retry-After:1",
            "fraction": "Retry-After:1.2",
            "milliseconds": "Retry-After-Ms:1100",
            "date": f"Retry-After:{formatdate(time.time() + 2, usegmt=True)}",
        }[form]
        emulator.faults.add(f"call=part,action=refuse,status=429,header={header},times=1")
        daemon.drop("a.txt", b"patience")
        await daemon.until_drained()
        assert_arrived(emulator, daemon, {"a.txt": b"patience"})
        told, again = [one.at_s for one in emulator.stats.requests if one.call is Call.PART]
        assert again - told >= (0.9 if form == "date" else 1.0)


async def test_a_long_wait_defers_the_file_and_holds_for_all(tmp_path: Path) -> None:
    """A wait longer than retry.max_wait defers the file until then; nobody else asks meanwhile."""
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url) as daemon,
    ):
        await daemon.start()
        emulator.faults.add("call=create,action=refuse,status=429,header=Retry-After:2,times=1")
        daemon.drop("a.txt", b"a")
        row = await daemon.until_state("a.txt", "deferred")
        assert row["reason"]["code"] == "deferred.rate_limited"
        assert row["reason"]["until"] is not None
        target = (await daemon.status())["targets"][0]
        assert target["state"] == "rate_limited"
        assert target["until"] is not None
        daemon.drop("b.txt", b"b")
        await daemon.until_drained()
        assert_arrived(emulator, daemon, {"a.txt": b"a", "b.txt": b"b"})
        told, *later = emulator.stats.requests
        assert min(one.at_s for one in later) - told.at_s >= 1.95


@pytest.mark.parametrize("call", ["create", "part", "complete"])
async def test_errors_of_the_server_pass(tmp_path: Path, call: str) -> None:
    """A few 500s and 503s in a row are no more than a delay."""
    faults = [f"call={call},action=refuse,status={status},times=2" for status in (500, 503)]
    content = noise(2 * MIB + 1)
    async with (
        Emulator(store=tmp_path / "store", faults=faults) as emulator,
        DaemonProcess(tmp_path, emulator.base_url) as daemon,
    ):
        await daemon.start()
        daemon.drop("a.bin", content)
        await daemon.until_drained()
        assert_arrived(emulator, daemon, {"a.bin": content})
        assert emulator.stats.uploads_created == 1


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("call=create,action=refuse,status=500", "deferred.server_error"),
        ("call=part,action=refuse,status=502", "deferred.server_error"),
        ("call=create,action=garble,body=<html>hello</html>", "deferred.bad_reply"),
        ("call=part,action=cut", "deferred.network"),
    ],
)
async def test_a_fault_that_lasts_defers_the_file_and_is_got_over(
    tmp_path: Path, fault: str, code: str
) -> None:
    """When all attempts failed the file waits with its reason, and goes on once the fault ends."""
    async with (
        Emulator(store=tmp_path / "store", faults=[fault]) as emulator,
        DaemonProcess(tmp_path, emulator.base_url) as daemon,
    ):
        await daemon.start()
        daemon.drop("a.txt", b"at last")
        row = await daemon.until_state("a.txt", "deferred")
        assert row["reason"]["code"] == code
        assert row["reason"]["until"] is not None
        assert (await daemon.status())["drained"] is False
        emulator.faults.clear()
        await daemon.until_drained()
        assert_arrived(emulator, daemon, {"a.txt": b"at last"})


async def test_a_connection_that_breaks_in_every_part_costs_those_parts_alone(
    tmp_path: Path,
) -> None:
    """Each part is cut off once in its middle: each is sent once more, in the same upload."""
    content = noise(4 * MIB)
    async with (
        Emulator(
            store=tmp_path / "store", faults=["call=part,action=cut,at=512KiB,times=4"]
        ) as emulator,
        DaemonProcess(tmp_path, emulator.base_url) as daemon,
    ):
        await daemon.start()
        daemon.drop("a.bin", content)
        await daemon.until_drained()
        assert_arrived(emulator, daemon, {"a.bin": content})
        assert emulator.stats.counts[Call.PART, Outcome.CUT.value] == 4
        assert emulator.stats.counts[Call.PART, "200"] == 4
        assert emulator.stats.uploads_created == 1
        receipt = read_receipt(daemon.spool / "done/a.bin")
        assert 0 < receipt["bytes_resent"] <= 4 * MIB
        assert receipt["bytes_sent"] == len(content) + receipt["bytes_resent"]


async def test_a_refused_file_fails_with_the_services_own_words(tmp_path: Path) -> None:
    """A 400 at create fails that file, with the service's sentence, and no other."""
    fault = "call=create,action=refuse,status=400,message=Not on a Sunday.,times=1"
    async with (
        Emulator(store=tmp_path / "store", faults=[fault]) as emulator,
        DaemonProcess(tmp_path, emulator.base_url) as daemon,
    ):
        await daemon.start()
        daemon.drop("sub/a.txt", b"refused")
        row = await daemon.until_state("sub/a.txt", "failed")
        assert row["reason"]["code"] == "failed.rejected"
        for number in range(5):
            daemon.drop(f"{number}.txt", b"taken")
        await daemon.until_drained()
        filed = daemon.spool / "failed/sub/a.txt"
        assert filed.read_bytes() == b"refused"
        receipt = read_receipt(filed)
        assert receipt["outcome"] == "failed"
        assert "Not on a Sunday." in receipt["reason"]["text"]
        assert receipt["file_id"] is None
        assert_arrived(emulator, daemon, {f"{number}.txt": b"taken" for number in range(5)})


async def test_a_wrong_key_holds_the_files_and_is_not_hammered(tmp_path: Path) -> None:
    """A 401 shuts the target after a few requests; with the right key all goes on by itself."""
    key = tmp_path / "key"
    key.write_text("sk-wrong")
    key.chmod(0o600)
    names = [f"{number}.txt" for number in range(20)]
    async with (
        Emulator(store=tmp_path / "store", api_key="sk-right") as emulator,
        DaemonProcess(
            tmp_path, emulator.base_url, config={"target": {"api_key_file": str(key)}}
        ) as daemon,
    ):
        for name in names[:10]:
            daemon.drop(name, name.encode())
        await daemon.start()

        async def all_seen(count: int) -> bool:
            counts = (await daemon.status())["counts"]
            return bool(counts["held"] and counts["held"] + counts["queued"] == count)

        await wait_until(lambda: all_seen(10), what="all files to be held or queued")
        asked = emulator.stats.count()
        assert asked <= 4  # files_in_flight
        for name in names[10:]:
            daemon.drop(name, name.encode())
        await wait_until(lambda: all_seen(20), what="the new files to wait as well")
        assert emulator.stats.count() == asked
        status = await daemon.status()
        assert status["targets"][0]["state"] == "auth"
        rows = await daemon.files()
        held = [row for row in rows if row["state"] == "held"]
        assert {row["reason"]["code"] for row in held} == {"held.auth"}
        waiting = [row for row in rows if row["state"] == "queued"]
        assert {row["reason"]["code"] for row in waiting} == {"queued.target"}
        assert "sk-wrong" not in daemon.log_text()
        assert await daemon.stop() == 0
        key.write_text("sk-right")
        await daemon.start()
        await daemon.until_drained()
        assert_arrived(emulator, daemon, {name: name.encode() for name in names})


async def test_an_exhausted_quota_holds_the_file(tmp_path: Path) -> None:
    """A 429 that no wait cures is not taken for a rate limit: the file waits for a person."""
    fault = (
        "call=create,action=refuse,status=429,code=insufficient_quota,"
        "message=You exceeded your current quota, please check your plan."
    )
    async with (
        Emulator(store=tmp_path / "store", faults=[fault]) as emulator,
        DaemonProcess(tmp_path, emulator.base_url) as daemon,
    ):
        await daemon.start()
        daemon.drop("a.txt", b"broke")
        row = await daemon.until_state("a.txt", "held")
        assert row["reason"]["code"] == "held.quota"
        assert "You exceeded your current quota" in row["reason"]["text"]
        assert (await daemon.status())["targets"][0]["state"] == "quota"
        assert emulator.stats.count() == 1
        assert await daemon.stop() == 0
        emulator.faults.clear()
        await daemon.start()
        await daemon.until_drained()
        assert_arrived(emulator, daemon, {"a.txt": b"broke"})


@pytest.mark.parametrize(
    ("call", "profile"),
    [
        ("create", "openai"),
        ("part", "openai"),
        ("part", "strict"),
        ("complete", "openai"),
        ("complete", "strict"),
        ("complete", "lenient"),
        ("complete", "restful"),
    ],
)
async def test_a_lost_reply_makes_no_second_file(tmp_path: Path, call: str, profile: str) -> None:
    """The service did it but its reply was lost: the file is there once, however it answers then.

    A complete that is asked for twice is refused by most of these rules, so that the list of
    files must tell. One part is sent at a time, since some of them want ids in order of arrival.
    """
    content = noise(2 * MIB)
    config: dict[str, Table] = {"transfer": {"parts_in_flight": 1}}
    async with (
        Emulator(
            store=tmp_path / "store",
            rules=rules_for(profile),
            faults=[f"call={call},action=lose,times=1"],
        ) as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config=config) as daemon,
    ):
        await daemon.start()
        daemon.drop("a.bin", content)
        await daemon.until_drained()
        assert_arrived(emulator, daemon, {"a.bin": content})
        assert emulator.stats.files_created == 1
        listed = emulator.stats.count(Call.LIST)
        assert (listed > 0) == (call == "complete" and profile != "lenient")


@pytest.mark.parametrize(
    "fault",
    [
        "call=complete,action=garble,status=500,body=oops,times=1",
        "call=complete,action=garble,body=oops,times=1",
        "call=complete,action=cut,at=after,times=2",
        "call=complete,action=stall,at=reply,times=1",
    ],
    ids=["a 500 after the deed", "nonsense after the deed", "cut before the deed", "no reply"],
)
async def test_an_unclear_complete_is_found_out(tmp_path: Path, fault: str) -> None:
    """Whatever hides the outcome of complete, the file is at the service exactly once."""
    async with (
        Emulator(store=tmp_path / "store", faults=[fault]) as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config=IMPATIENT) as daemon,
    ):
        await daemon.start()
        daemon.drop("a.txt", b"once")
        await daemon.until_drained()
        assert_arrived(emulator, daemon, {"a.txt": b"once"})
        assert "uncertain.reply_lost" in codes(await row_of(daemon, "a.txt"))
        assert emulator.stats.uploads_created == 1


async def test_a_lost_complete_among_twins_is_told_apart(tmp_path: Path) -> None:
    """Of two files with the same name and size, the lost complete's one is found, not its twin."""
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url) as daemon,
    ):
        await daemon.start()
        daemon.drop("one/a.txt", b"twin 1")
        await daemon.until_drained()
        emulator.faults.add("call=complete,action=lose,times=1")
        daemon.drop("two/a.txt", b"twin 2")
        await daemon.until_drained()
        ids = [read_receipt(daemon.spool / f"done/{n}/a.txt")["file_id"] for n in ("one", "two")]
        assert ids == list(emulator.store.files)
        assert len(set(ids)) == 2


@pytest.mark.parametrize("rule", ["beyond_bytes=all_parts", "orphans=counted"])
async def test_where_an_orphan_part_spoils_the_upload_it_is_begun_anew(
    tmp_path: Path, rule: str
) -> None:
    """A part stored twice may make the upload useless: it is cancelled and a new one opened."""
    content = noise(3 * MIB)
    async with (
        Emulator(
            store=tmp_path / "store",
            rules=rules_for("openai", [rule]),
            faults=["call=part,action=lose,times=1"],
        ) as emulator,
        DaemonProcess(tmp_path, emulator.base_url) as daemon,
    ):
        await daemon.start()
        daemon.drop("a.bin", content)
        await daemon.until_drained()
        assert_arrived(emulator, daemon, {"a.bin": content})
        assert "queued.again" in codes(await row_of(daemon, "a.bin"))
        await wait_until(
            lambda: (
                [one.status for one in emulator.store.uploads.values()]
                == [UploadStatus.CANCELLED, UploadStatus.COMPLETED]
            ),
            what="the spoilt upload to be cancelled",
        )


async def test_an_upload_that_expires_is_begun_anew(tmp_path: Path) -> None:
    """When the upload's time is over at the service, a new one is opened by itself."""
    content = noise(2 * MIB)
    async with (
        Emulator(
            store=tmp_path / "store", faults=["call=create,action=expire,times=1"]
        ) as emulator,
        DaemonProcess(tmp_path, emulator.base_url) as daemon,
    ):
        await daemon.start()
        daemon.drop("a.bin", content)
        await daemon.until_drained()
        assert_arrived(emulator, daemon, {"a.bin": content})
        assert emulator.stats.uploads_created == 2


async def test_a_file_that_never_arrives_whole_is_held(tmp_path: Path) -> None:
    """A wrong md5 time after time ends in a person's hands, with every upload cancelled."""
    fault = "call=complete,action=refuse,status=400,message=The md5 does not match."
    async with (
        Emulator(store=tmp_path / "store", faults=[fault]) as emulator,
        DaemonProcess(tmp_path, emulator.base_url) as daemon,
    ):
        await daemon.start()
        daemon.drop("a.txt", b"cursed")
        row = await daemon.until_state("a.txt", "held")
        assert row["reason"]["code"] == "held.restarts"
        assert "md5" in row["reason"]["text"]
        assert (daemon.spool / "a.txt").read_bytes() == b"cursed"
        tried = emulator.stats.uploads_created
        assert 2 <= tried <= 6
        await wait_until(
            lambda: (
                sum(one.status is UploadStatus.PENDING for one in emulator.store.uploads.values())
                <= 1  # the last one is the file's, for whoever looks at it
            ),
            what="the former uploads to be cancelled",
        )


@pytest.mark.parametrize(
    "fault",
    [
        "call=create,action=stall,times=1",
        "call=part,action=stall,times=1",
        "call=part,action=stall,at=512KiB,times=1",
        "call=part,action=stall,at=reply,times=1",
    ],
)
async def test_a_request_in_which_no_byte_moves_is_given_up(tmp_path: Path, fault: str) -> None:
    """A request that stalls is given up after stall_timeout and tried again."""
    content = noise(2 * MIB)
    async with (
        Emulator(store=tmp_path / "store", faults=[fault]) as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config=IMPATIENT) as daemon,
    ):
        await daemon.start()
        daemon.drop("a.bin", content)
        await daemon.until_drained(15)
        assert_arrived(emulator, daemon, {"a.bin": content})


async def test_the_bandwidth_is_kept_over_all_senders(tmp_path: Path) -> None:
    """Four parts of two files at a time share the bandwidth, and waiting for it is no stall.

    Each part takes two seconds in all, twice the stall_timeout, and none is given up.
    """
    config: dict[str, Table] = {"transfer": {"bandwidth": "2MiB/s", "stall_timeout": "1s"}}
    contents = {name: noise(3 * MIB, seed) for seed, name in enumerate(("a.bin", "b.bin"))}
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config=config) as daemon,
    ):
        for name, content in contents.items():
            daemon.drop(name, content)
        await daemon.start()
        await daemon.until_drained()
        assert_arrived(emulator, daemon, contents)
        at_s = {
            call: [one.at_s for one in emulator.stats.requests if one.call is call] for call in Call
        }
        took_s = max(at_s[Call.COMPLETE]) - min(at_s[Call.CREATE])
        assert took_s >= 0.8 * 6 / 2
        assert len(at_s[Call.PART]) == 6


async def test_a_service_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    """Without a network the file is deferred, and it arrives by itself once there is one."""
    port = free_port()
    async with DaemonProcess(tmp_path, f"http://127.0.0.1:{port}/v1") as daemon:
        await daemon.start()
        daemon.drop("a.txt", b"at last")
        row = await daemon.until_state("a.txt", "deferred")
        assert row["reason"]["code"] == "deferred.network"
        assert "tried again" in row["reason"]["text"]
        async with Emulator(store=tmp_path / "store", port=port) as emulator:
            await daemon.until_drained()
            assert_arrived(emulator, daemon, {"a.txt": b"at last"})


async def test_an_outage_under_way_costs_the_parts_in_flight_alone(tmp_path: Path) -> None:
    """A service that goes and comes back finds the same upload going on where it was."""
    content = noise(8 * MIB)
    store, port = tmp_path / "store", free_port()
    async with DaemonProcess(tmp_path, f"http://127.0.0.1:{port}/v1") as daemon:
        stuck = "call=part,action=stall,skip=4"
        async with Emulator(store=store, port=port, faults=[stuck]) as emulator:
            await daemon.start()
            daemon.drop("a.bin", content)
            await emulator.stats.until(lambda stats: stats.counts[Call.PART, "200"] == 4)
        await daemon.until_state("a.bin", "deferred")
        async with Emulator(store=store, port=port) as again:
            await daemon.until_drained()
            assert_arrived(again, daemon, {"a.bin": content})
            assert again.stats.uploads_created == 0
            assert again.stats.counts[Call.PART, "200"] == 4
