"""The unmodified official Python SDK against the emulator: what it sends is taken and judged."""

from __future__ import annotations

import asyncio
import hashlib
import io
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import openai
import pytest

from uploaderd.emulator import Emulator, Outcome, rules_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from openai._types import FileTypes
    from openai.types import Upload

KEY = "sk-interop"
DATA = bytes(range(256)) * 5000
MD5 = hashlib.md5(DATA, usedforsecurity=False).hexdigest()
PART_BYTES = 300_000


@asynccontextmanager
async def service(
    store: Path, *settings: str, profile: str = "openai"
) -> AsyncIterator[tuple[Emulator, openai.AsyncOpenAI]]:
    """Run an emulator that knows one key, and an SDK that does not try again."""
    async with (
        Emulator(store=store, rules=rules_for(profile, settings), api_key=KEY) as emulator,
        openai.AsyncOpenAI(base_url=emulator.base_url, api_key=KEY, max_retries=0) as client,
    ):
        yield emulator, client


async def opened(client: openai.AsyncOpenAI, size: int = len(DATA)) -> str:
    """Create an upload and return its id."""
    upload = await client.uploads.create(
        bytes=size, filename="a.bin", mime_type="application/octet-stream", purpose="user_data"
    )
    return upload.id


async def part(client: openai.AsyncOpenAI, upload_id: str, data: bytes) -> str:
    """Add a part and return its id."""
    return (await client.uploads.parts.create(upload_id, data=data)).id


def check(emulator: Emulator, upload: Upload, data: bytes = DATA) -> None:
    """Check that the emulator holds these very bytes under the file that the SDK was told of."""
    assert upload.status == "completed"
    assert upload.file is not None
    assert upload.file.bytes == len(data)
    file = emulator.store.files[upload.file.id]
    assert emulator.store.content_path(file).read_bytes() == data


async def test_upload_file_chunked_from_bytes(tmp_path: Path) -> None:
    """The SDK's helper uploads bytes in parts."""
    async with service(tmp_path) as (emulator, client):
        upload = await client.uploads.upload_file_chunked(
            file=DATA,
            filename="a.bin",
            bytes=len(DATA),
            mime_type="application/octet-stream",
            purpose="user_data",
            part_size=PART_BYTES,
            md5=MD5,
        )
        check(emulator, upload)
        assert len(emulator.stats.part_attempts(upload.id)) == 5


async def test_upload_file_chunked_from_a_path(tmp_path: Path) -> None:
    """The SDK's helper uploads a file in parts, under the file's own name."""
    path = tmp_path / "data.bin"
    path.write_bytes(DATA)
    async with service(tmp_path / "store") as (emulator, client):
        upload = await client.uploads.upload_file_chunked(
            file=path, mime_type="application/octet-stream", purpose="user_data", md5=MD5
        )
        check(emulator, upload)
        assert upload.filename == "data.bin"


async def test_synchronous_client(tmp_path: Path) -> None:
    """The synchronous client does the same: helper, list, retrieve and delete."""
    path = tmp_path / "data.bin"
    path.write_bytes(DATA)

    def use(base_url: str) -> Upload:
        with openai.OpenAI(base_url=base_url, api_key=KEY, max_retries=0) as client:
            upload = client.uploads.upload_file_chunked(
                file=path,
                mime_type="application/octet-stream",
                purpose="user_data",
                part_size=PART_BYTES,
                md5=MD5,
            )
            assert upload.file is not None
            assert [file.id for file in client.files.list(purpose="user_data")] == [upload.file.id]
            assert client.files.retrieve(upload.file.id).bytes == len(DATA)
            return upload

    async with service(tmp_path / "store") as (emulator, _):
        check(emulator, await asyncio.to_thread(use, emulator.base_url))


@pytest.mark.parametrize("kind", ["bytes", "stream", "file", "path", "tuple"])
async def test_part_from(tmp_path: Path, kind: str) -> None:
    """A part may be given as bytes, a stream, an open file, a path, or with a name and a type."""
    path = tmp_path / "data.bin"
    path.write_bytes(DATA)
    async with service(tmp_path / "store") as (emulator, client):
        upload_id = await opened(client)
        with path.open("rb") as stream:
            sources: dict[str, FileTypes] = {
                "bytes": DATA,
                "stream": io.BytesIO(DATA),
                "file": stream,
                "path": path,
                "tuple": ("part", DATA, "application/x-part"),
            }
            made = await client.uploads.parts.create(upload_id, data=sources[kind])
        assert (made.object, made.upload_id) == ("upload.part", upload_id)
        check(emulator, await client.uploads.complete(upload_id, part_ids=[made.id], md5=MD5))


async def test_parts_out_of_order(tmp_path: Path) -> None:
    """Parts sent at once and last first make the file in the order that complete gives."""
    async with service(tmp_path) as (emulator, client):
        upload_id = await opened(client)
        pieces = [DATA[at : at + PART_BYTES] for at in range(0, len(DATA), PART_BYTES)]
        ids = await asyncio.gather(*(part(client, upload_id, one) for one in reversed(pieces)))
        done = await client.uploads.complete(upload_id, part_ids=ids[::-1], md5=MD5)
        check(emulator, done)


async def test_wrong_md5(tmp_path: Path) -> None:
    """A wrong md5 is a BadRequestError that names it, and the upload can still be completed."""
    async with service(tmp_path) as (emulator, client):
        upload_id = await opened(client)
        part_id = await part(client, upload_id, DATA)
        with pytest.raises(openai.BadRequestError) as caught:
            await client.uploads.complete(upload_id, part_ids=[part_id], md5="0" * 32)
        assert (caught.value.param, caught.value.type) == ("md5", "invalid_request_error")
        assert str(caught.value.request_id).startswith("req_")
        check(emulator, await client.uploads.complete(upload_id, part_ids=[part_id]))


async def test_missing_and_unknown_parts(tmp_path: Path) -> None:
    """A part that was left out and one that never was are both BadRequestErrors."""
    async with service(tmp_path) as (emulator, client):
        upload_id = await opened(client)
        first = await part(client, upload_id, DATA[:PART_BYTES])
        last = await part(client, upload_id, DATA[PART_BYTES:])
        for ids in ([first], [], [first, "part_unknown"], [first, last, "part_unknown"]):
            with pytest.raises(openai.BadRequestError, match=r"part|bytes"):
                await client.uploads.complete(upload_id, part_ids=ids)
        check(emulator, await client.uploads.complete(upload_id, part_ids=[first, last]))


async def test_too_many_bytes(tmp_path: Path) -> None:
    """A part beyond the declared bytes is refused as it is added, and so is a sum at complete."""
    async with service(tmp_path) as (_, client):
        upload_id = await opened(client, 10)
        with pytest.raises(openai.BadRequestError, match="beyond the 10 bytes"):
            await part(client, upload_id, b"0123456789X")
        ids = [await part(client, upload_id, b"012345") for _ in range(2)]
        with pytest.raises(openai.BadRequestError, match="12 bytes"):
            await client.uploads.complete(upload_id, part_ids=ids)
    async with service(tmp_path, "beyond_bytes=all_parts") as (_, client):
        upload_id = await opened(client, 10)
        await part(client, upload_id, b"012345")
        with pytest.raises(openai.BadRequestError, match="beyond the 10 bytes"):
            await part(client, upload_id, b"012345")


async def test_cancel(tmp_path: Path) -> None:
    """A cancelled upload says so and takes neither parts nor complete."""
    async with service(tmp_path) as (_, client):
        upload_id = await opened(client)
        part_id = await part(client, upload_id, DATA)
        assert (await client.uploads.cancel(upload_id)).status == "cancelled"
        with pytest.raises(openai.BadRequestError) as caught:
            await part(client, upload_id, DATA)
        assert caught.value.code == "upload_not_pending"
        with pytest.raises(openai.BadRequestError):
            await client.uploads.complete(upload_id, part_ids=[part_id])
        with pytest.raises(openai.NotFoundError):
            await client.uploads.cancel("upload_unknown")


async def test_complete_twice(tmp_path: Path) -> None:
    """A second complete is refused, or answers the same file where the rules say so."""
    async with service(tmp_path / "a") as (_, client):
        upload_id = await opened(client)
        part_id = await part(client, upload_id, DATA)
        await client.uploads.complete(upload_id, part_ids=[part_id])
        with pytest.raises(openai.BadRequestError):
            await client.uploads.complete(upload_id, part_ids=[part_id])
    async with service(tmp_path / "b", "complete_twice=200") as (emulator, client):
        upload_id = await opened(client)
        part_id = await part(client, upload_id, DATA)
        first = await client.uploads.complete(upload_id, part_ids=[part_id])
        again = await client.uploads.complete(upload_id, part_ids=[part_id])
        assert first == again
        assert emulator.stats.files_created == 1


async def test_files(tmp_path: Path) -> None:
    """The list goes through its pages, a file is retrieved, read, deleted and then unknown."""
    async with service(tmp_path) as (emulator, client):
        ids = []
        for number in range(5):
            file = await client.files.create(
                file=(f"{number}.png", DATA[:100]),
                purpose="vision",
                expires_after={"anchor": "created_at", "seconds": 3600},
            )
            assert file.expires_at == file.created_at + 3600
            ids.append(file.id)
            emulator.clock.advance(1)
        pages = client.files.list(purpose="vision", limit=2, order="asc")
        assert [file.id async for file in pages] == ids
        assert (await client.files.retrieve(ids[0])).filename == "0.png"
        assert (await client.files.content(ids[0])).read() == DATA[:100]
        assert (await client.files.delete(ids[0])).deleted
        with pytest.raises(openai.NotFoundError, match="No such File object"):
            await client.files.retrieve(ids[0])


async def test_content_of_user_data_is_refused(tmp_path: Path) -> None:
    """The bytes of a user_data file can't be had back."""
    async with service(tmp_path) as (_, client):
        file = await client.files.create(file=("a.txt", DATA), purpose="user_data")
        with pytest.raises(openai.BadRequestError, match="Not allowed to download"):
            await client.files.content(file.id)


async def test_wrong_key(tmp_path: Path) -> None:
    """A wrong key is an AuthenticationError on every call."""
    async with service(tmp_path) as (_, client):
        upload_id = await opened(client)
        stranger = client.with_options(api_key="sk-wrong")
        with pytest.raises(openai.AuthenticationError) as caught:
            await opened(stranger)
        assert caught.value.code == "invalid_api_key"
        with pytest.raises(openai.AuthenticationError):
            await part(stranger, upload_id, DATA)
        with pytest.raises(openai.AuthenticationError):
            await stranger.files.list()


async def test_unknown_key_in_the_body(tmp_path: Path) -> None:
    """A key that create does not have is refused and named."""
    async with service(tmp_path) as (_, client):
        with pytest.raises(openai.BadRequestError) as caught:
            await client.uploads.create(
                bytes=1,
                filename="a",
                mime_type="text/plain",
                purpose="user_data",
                extra_body={"colour": "red"},
            )
        assert caught.value.param == "colour"


async def test_sdk_tries_a_lost_part_again(tmp_path: Path) -> None:
    """A part whose reply is lost is sent again by the SDK, and leaves an orphan behind."""
    async with service(tmp_path) as (emulator, client):
        emulator.faults.add("call=part,action=lose,times=1")
        upload_id = await opened(client)
        patient = client.with_options(max_retries=2)
        part_id = await part(patient, upload_id, DATA)
        outcomes = [one.outcome for one in emulator.stats.part_attempts(upload_id)]
        assert outcomes == [Outcome.LOST, Outcome.ANSWERED]
        assert [one.id for one in emulator.store.parts_of[upload_id]][1:] == [part_id]
        check(emulator, await client.uploads.complete(upload_id, part_ids=[part_id], md5=MD5))


async def test_sdk_heeds_the_rate_limit(tmp_path: Path) -> None:
    """The SDK reads Retry-After and x-should-retry as the emulator sends them."""
    async with service(tmp_path) as (emulator, client):
        patient = client.with_options(max_retries=2)
        limit = emulator.faults.add(
            "call=create,action=refuse,status=429,header=retry-after-ms:1,times=2"
        )
        await opened(patient)
        assert limit.fired == 2
        final = emulator.faults.add(
            "call=create,action=refuse,status=429,header=x-should-retry:false"
        )
        with pytest.raises(openai.RateLimitError):
            await opened(patient)
        assert final.fired == 1


@pytest.mark.parametrize("form", ["dated", "v1"])
async def test_azure(tmp_path: Path, form: str) -> None:
    """Azure's client and Azure's v1 base URL both work against Azure's profile."""
    async with service(tmp_path, profile="azure") as (emulator, _):
        client = (
            openai.AsyncAzureOpenAI(
                azure_endpoint=emulator.endpoint,
                api_key=KEY,
                api_version="2025-03-01-preview",
                max_retries=0,
            )
            if form == "dated"
            else openai.AsyncOpenAI(
                base_url=f"{emulator.endpoint}/openai/v1", api_key=KEY, max_retries=0
            )
        )
        async with client:
            upload = await client.uploads.upload_file_chunked(
                file=DATA,
                filename="a.jsonl",
                bytes=len(DATA),
                mime_type="application/jsonl",
                purpose="fine-tune",
                part_size=PART_BYTES,
                md5=MD5,
            )
            check(emulator, upload)
            assert upload.id.startswith("fine-tune-")
            assert upload.expires_at - upload.created_at == 7200
            assert upload.file is not None
            assert (await client.files.retrieve(upload.file.id)).filename == "a.jsonl"
            with pytest.raises(openai.BadRequestError) as caught:
                await part(client, upload.id, DATA)
            assert isinstance(caught.value.body, dict)
            assert "innererror" in caught.value.body
