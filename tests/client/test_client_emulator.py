"""The client against the emulator: every profile, and its bad days."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from tests.client.wire import SECRET, Steps, TheKey, talking
from uploaderd.client import CreateSpec, Flavour
from uploaderd.emulator import PROFILES, Emulator, rules_for
from uploaderd.errors import (
    ChecksumError,
    RejectedError,
    ServiceError,
    SessionLostError,
    TargetBlockedError,
    TransientError,
)

if TYPE_CHECKING:
    from pathlib import Path

    from uploaderd.client import Client, RemoteFile

DATA = bytes(range(256)) * 1024
HALF = len(DATA) // 2
MD5 = hashlib.md5(DATA, usedforsecurity=False).hexdigest()


def spec(purpose: str = "assistants", name: str = "a.txt") -> CreateSpec:
    """What DATA is uploaded as."""
    return CreateSpec(
        filename=name,
        purpose=purpose,
        size=len(DATA),
        mime_type="text/plain",
        expires_after_s=None,
    )


async def upload(client: Client, md5: str = MD5) -> RemoteFile:
    """Upload DATA in two parts, the second one first."""
    remote = await client.create(spec(), request_id="c")
    second = await client.add_part(remote.id, Steps([DATA[HALF:]]), request_id="2")
    first = await client.add_part(remote.id, Steps([DATA[:1000], DATA[1000:HALF]]), request_id="1")
    return await client.complete(remote.id, [first, second], md5, request_id="e")


@pytest.mark.parametrize("profile", sorted(set(PROFILES) - {"restful", "azure"}))
async def test_a_file_arrives_whole_whatever_the_service_is_like(
    profile: str, tmp_path: Path
) -> None:
    """Parts sent in any order make the file that was meant."""
    rules = rules_for(profile)
    async with (
        Emulator(store=tmp_path, api_key=SECRET, rules=rules) as emulator,
        talking(emulator.base_url) as client,
    ):
        found = await upload(client)
        assert found.bytes in {None, len(DATA)}
        assert (found.filename, found.purpose) == ("a.txt", "assistants")
        emulator.clock.advance(10)
        listed = await client.list_files("assistants", created_after=None, request_id="l")
        assert [each.id for each in listed] == [found.id]


@pytest.mark.parametrize("form", ["versioned", "v1"])
async def test_azure_takes_a_file_in_both_of_its_forms(form: str, tmp_path: Path) -> None:
    """Its paths, its key header and its ids make no difference."""
    async with Emulator(store=tmp_path, api_key=SECRET, rules=rules_for("azure")) as emulator:
        base = emulator.endpoint + ("" if form == "versioned" else "/openai/v1")
        version = "2025-03-01-preview" if form == "versioned" else ""
        async with talking(base, flavour=Flavour.AZURE, api_version=version) as client:
            found = await upload(client)
            assert found.id
        async with talking(
            base, flavour=Flavour.AZURE, api_version=version, key=TheKey("wrong")
        ) as client:
            with pytest.raises(TargetBlockedError) as caught:
                await client.create(spec(), request_id="c")
            assert caught.value.code == "auth"


async def test_a_wrong_key_blocks_the_target(tmp_path: Path) -> None:
    """Create and part alike, also when the refusal comes before the body was read."""
    async with (
        Emulator(store=tmp_path, api_key="another") as emulator,
        talking(emulator.base_url) as client,
    ):
        for call in (
            client.create(spec(), request_id="c"),
            client.add_part("upload_1", Steps([bytes(1 << 20)] * 8), request_id="p"),
            client.list_files("batch", created_after=None, request_id="l"),
        ):
            with pytest.raises(TargetBlockedError) as caught:
                await call
            assert (caught.value.code, caught.value.status) == ("auth", 401)


async def test_a_wrong_md5_is_a_checksum_error(tmp_path: Path) -> None:
    """The service's refusal names the checksum."""
    async with (
        Emulator(store=tmp_path, api_key=SECRET) as emulator,
        talking(emulator.base_url) as client,
    ):
        with pytest.raises(ChecksumError):
            await upload(client, md5="0" * 32)


@pytest.mark.parametrize("profile", sorted(set(PROFILES) - {"azure"}))
async def test_what_is_done_to_an_ended_upload_says_that_it_is_gone(
    profile: str, tmp_path: Path
) -> None:
    """After a cancel, parts and completions are refused as belonging to a lost session."""
    async with (
        Emulator(store=tmp_path, api_key=SECRET, rules=rules_for(profile)) as emulator,
        talking(emulator.base_url) as client,
    ):
        remote = await client.create(spec(), request_id="c")
        part = await client.add_part(remote.id, Steps([DATA]), request_id="p")
        await client.cancel(remote.id, request_id="x")
        with pytest.raises(SessionLostError):
            await client.add_part(remote.id, Steps([DATA]), request_id="p")
        with pytest.raises(SessionLostError):
            await client.complete(remote.id, [part], MD5, request_id="e")
        with pytest.raises(SessionLostError):
            await client.cancel("upload_unknown", request_id="x")


@pytest.mark.parametrize("profile", sorted(set(PROFILES) - {"azure"}))
async def test_after_the_hour_the_session_is_lost(profile: str, tmp_path: Path) -> None:
    """An expired upload is begun anew."""
    async with (
        Emulator(store=tmp_path, api_key=SECRET, rules=rules_for(profile)) as emulator,
        talking(emulator.base_url) as client,
    ):
        remote = await client.create(spec(), request_id="c")
        emulator.clock.advance(4000)
        with pytest.raises(SessionLostError):
            await client.add_part(remote.id, Steps([DATA]), request_id="p")


async def test_the_sums_that_do_not_add_up_lose_the_session(tmp_path: Path) -> None:
    """A part beyond the declared bytes, missing bytes and unknown part ids begin it anew."""
    async with (
        Emulator(store=tmp_path, api_key=SECRET) as emulator,
        talking(emulator.base_url) as client,
    ):
        remote = await client.create(spec(), request_id="c")
        with pytest.raises(SessionLostError) as over:
            await client.add_part(remote.id, Steps([DATA, b"!"]), request_id="p")
        part = await client.add_part(remote.id, Steps([DATA[:HALF]]), request_id="p")
        with pytest.raises(SessionLostError) as short:
            await client.complete(remote.id, [part], MD5, request_id="e")
        with pytest.raises(SessionLostError) as unknown:
            await client.complete(remote.id, [part, "part_0"], MD5, request_id="e")
    assert over.value.code == "over_declared"
    assert short.value.code == "size_mismatch"
    assert unknown.value.code == "parts_lost"
    assert not any(each.value.acted for each in (over, short, unknown))


async def test_a_file_that_the_purpose_does_not_take_is_rejected(tmp_path: Path) -> None:
    """Retrying would change nothing."""
    async with (
        Emulator(store=tmp_path, api_key=SECRET) as emulator,
        talking(emulator.base_url) as client,
    ):
        with pytest.raises(RejectedError) as caught:
            await client.create(spec("fine-tune", "a.png"), request_id="c")
        with pytest.raises(RejectedError):
            await client.create(spec("nonsense"), request_id="c")
    assert caught.value.code == "purpose_rule"


@pytest.mark.parametrize(
    ("fault", "kind", "code", "acted"),
    [
        ("at=after,action=refuse,status=503", TransientError, "server_error", True),
        ("action=refuse,status=500,close=true", TransientError, "server_error", None),
        ("action=refuse,status=429,header=Retry-After:3", TransientError, "rate_limited", False),
        ("action=refuse,status=429,code=insufficient_quota", TargetBlockedError, "quota", False),
        ("action=refuse,status=401,close=true", TargetBlockedError, "auth", False),
        ("action=refuse,status=413,close=true", TargetBlockedError, "part_too_large", False),
        ("action=refuse,status=302,header=Location:/x", TargetBlockedError, "redirect", False),
        ("at=after,action=refuse,status=409", TransientError, "conflict", True),
        ("action=refuse,status=400", RejectedError, "rejected", False),
        ("action=garble,body=<html></html>", TransientError, "bad_reply", True),
        ("action=cut,at=100000", TransientError, "network", None),
        ("action=lose", TransientError, "network", True),
        ("action=stall", TransientError, "network", None),
        ("action=expire", SessionLostError, None, False),
    ],
)
async def test_each_bad_day_of_a_part_has_its_error(
    fault: str, kind: type[ServiceError], code: str | None, acted: bool | None, tmp_path: Path
) -> None:
    """The emulator's faults come out as what is to be done next."""
    async with (
        Emulator(store=tmp_path, api_key=SECRET, faults=[f"call=part,{fault}"]) as emulator,
        talking(emulator.base_url, stall_s=0.5) as client,
    ):
        remote = await client.create(spec(), request_id="c")
        with pytest.raises(kind) as caught:
            await client.add_part(remote.id, Steps([DATA]), request_id="p")
    assert code in {None, caught.value.code}
    assert acted in {None, caught.value.acted}
