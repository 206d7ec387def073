"""The calls as they are documented: shapes, ids, headers, refusals, and the list of files."""

from __future__ import annotations

import hashlib
import json
import re
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import pytest

from tests.emulator.kit import Api, form_of, service

if TYPE_CHECKING:
    from pathlib import Path

DATA = b"0123456789"


async def test_shapes_of_an_upload(tmp_path: Path) -> None:
    """Each of the four calls answers with the documented keys and id shapes, and no others."""
    async with service(tmp_path) as api:
        upload = (await api.create(10)).document
        assert re.fullmatch(r"upload_[0-9a-f]{32}", upload["id"])
        assert upload == {
            "id": upload["id"],
            "object": "upload",
            "bytes": 10,
            "created_at": upload["created_at"],
            "expires_at": upload["created_at"] + 3600,
            "filename": "a.txt",
            "purpose": "user_data",
            "status": "pending",
            "file": None,
        }
        part = (await api.part(upload["id"], DATA)).document
        assert re.fullmatch(r"part_[0-9a-f]{32}", part["id"])
        assert set(part) == {"id", "object", "created_at", "upload_id"}
        assert (part["object"], part["upload_id"]) == ("upload.part", upload["id"])
        done = (await api.complete(upload["id"], part["id"])).document
        file = done.pop("file")
        del upload["file"]
        assert done == {**upload, "status": "completed"}
        assert re.fullmatch(r"file-[A-Za-z0-9]{22}", file["id"])
        assert file == {
            "id": file["id"],
            "object": "file",
            "bytes": 10,
            "created_at": file["created_at"],
            "filename": "a.txt",
            "purpose": "user_data",
            "status": "processed",
            "status_details": None,
        }
        cancelled = (await api.cancel((await api.create()).id)).document
        assert (cancelled["status"], cancelled["object"]) == ("cancelled", "upload")


async def test_reply_headers(tmp_path: Path) -> None:
    """Every reply, refusals included, has the service's headers, and Date is the service's."""
    async with service(tmp_path) as api:
        api.emulator.clock.advance(86400)
        for reply in (await api.create(), await api.create(-1), await api.call("GET", "/none")):
            assert re.fullmatch(r"req_[0-9a-f]{32}", reply.headers["x-request-id"])
            assert reply.headers["openai-version"] == "2020-10-01"
            assert reply.headers["openai-organization"]
            assert reply.headers["openai-processing-ms"].isdigit()
            sent = parsedate_to_datetime(reply.headers["Date"]).timestamp()
            assert abs(sent - api.emulator.clock.now()) < 5
        record = api.emulator.stats.requests[0]
        assert re.fullmatch(r"req_[0-9a-f]{32}", record.request_id)


async def test_client_request_id_is_kept(tmp_path: Path) -> None:
    """The client's own request id stands in the log beside the service's."""
    async with service(tmp_path) as api:
        reply = await api.call("GET", "/files", headers={"X-Client-Request-Id": "mine-1"})
        record = api.emulator.stats.requests[0]
        assert record.client_request_id == "mine-1"
        assert record.request_id == reply.headers["x-request-id"]


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"filename": None}, "filename"),
        ({"filename": ""}, "filename"),
        ({"filename": "\ud800"}, "filename"),
        ({"filename": 7}, "filename"),
        ({"purpose": None}, "purpose"),
        ({"purpose": "fun"}, "purpose"),
        ({"mime_type": None}, "mime_type"),
        ({"mime_type": "text"}, "mime_type"),
        ({"bytes": None}, "bytes"),
        ({"bytes": -1}, "bytes"),
        ({"bytes": 0}, "bytes"),
        ({"bytes": "10"}, "bytes"),
        ({"bytes": True}, "bytes"),
        ({"bytes": 1.5}, "bytes"),
        ({"bytes": 8_589_934_593}, "bytes"),
        ({"colour": "red"}, "colour"),
        ({"purpose": "fine-tune"}, "filename"),
        ({"purpose": "batch", "filename": "a.json"}, "filename"),
        ({"purpose": "vision", "filename": "a.jsonl"}, "filename"),
        ({"purpose": "assistants", "filename": "a"}, "filename"),
        ({"expires_after": 3600}, "expires_after"),
        ({"expires_after": {"seconds": 3600}}, "expires_after.anchor"),
        ({"expires_after": {"anchor": "created_at"}}, "expires_after.seconds"),
        (
            {"expires_after": {"anchor": "created_at", "seconds": 3599}},
            "expires_after.seconds",
        ),
        (
            {"expires_after": {"anchor": "created_at", "seconds": 2_592_001}},
            "expires_after.seconds",
        ),
        (
            {"expires_after": {"anchor": "created_at", "seconds": 3600, "days": 1}},
            "expires_after.days",
        ),
    ],
)
async def test_create_refuses(tmp_path: Path, changes: dict[str, Any], param: str) -> None:
    """A wrong field of create is refused with 400 and named, and nothing is created."""
    async with service(tmp_path) as api:
        reply = await api.create(**changes)
        assert reply.status == 400
        assert reply.error["type"] == "invalid_request_error"
        assert reply.error["param"] == param
        assert set(reply.error) == {"message", "type", "param", "code"}
        assert (await api.state())["uploads"] == []


@pytest.mark.parametrize(
    ("purpose", "filename"),
    [
        ("user_data", "any name\n.xyz"),
        ("evals", "noext"),
        ("fine-tune", "a.JSONL"),
        ("vision", "a.webp"),
        ("assistants", "a.tar"),
        ("batch", "ключ.jsonl"),
    ],
)
async def test_create_accepts(tmp_path: Path, purpose: str, filename: str) -> None:
    """A purpose takes the extensions it is documented to take, in any case and any script."""
    async with service(tmp_path) as api:
        reply = await api.create(purpose=purpose, filename=filename)
        assert reply.document["filename"] == filename


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "part_ids"),
        ({"part_ids": "part_1"}, "part_ids"),
        ({"part_ids": [1]}, "part_ids"),
        ({"part_ids": [], "md5": 7}, "md5"),
        ({"part_ids": [], "md5": "x", "sha256": "y"}, "sha256"),
        ({"part_ids": []}, "part_ids"),
        ([], "body"),
    ],
)
async def test_complete_refuses(tmp_path: Path, body: object, param: str) -> None:
    """A wrong field of complete is refused with 400 and named; the upload stays pending."""
    async with service(tmp_path) as api:
        upload_id = (await api.create()).id
        reply = await api.call("POST", f"/uploads/{upload_id}/complete", json=body)
        assert (reply.status, reply.error["param"]) == (400, param)
        part_id = (await api.part(upload_id, DATA)).id
        assert (await api.complete(upload_id, part_id)).status == 200


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 100_000, b"\xff", b"null", b"7"])
async def test_json_that_is_none(tmp_path: Path, body: bytes) -> None:
    """A body that is no JSON object is refused with 400."""
    async with service(tmp_path) as api:
        reply = await api.call("POST", "/uploads", data=body)
        assert reply.error["type"] == "invalid_request_error"
        assert reply.status == 400


async def test_unknown_upload(tmp_path: Path) -> None:
    """Every call on an upload that is not there answers 404."""
    async with service(tmp_path) as api:
        for reply in (
            await api.part("upload_x", DATA),
            await api.complete("upload_x", "part_x"),
            await api.cancel("upload_x"),
        ):
            assert reply.status == 404
            assert "No such Upload" in reply.error["message"]


async def test_no_such_call(tmp_path: Path) -> None:
    """What the real service lacks is lacking here: an upload cannot be read or listed."""
    async with service(tmp_path) as api:
        upload_id = (await api.create()).id
        for method, path in (
            ("GET", f"/uploads/{upload_id}"),
            ("GET", "/uploads"),
            ("GET", f"/uploads/{upload_id}/parts"),
            ("DELETE", f"/uploads/{upload_id}"),
            ("POST", "//uploads"),
        ):
            reply = await api.call(method, path)
            assert reply.status == 404
            assert reply.error["type"] == "invalid_request_error"


async def test_part_of_an_ended_upload(tmp_path: Path) -> None:
    """A part of a completed upload is refused with the code that is seen in the field."""
    async with service(tmp_path) as api:
        reply = await api.part((await api.whole()).id, DATA)
        assert (reply.status, reply.error["code"]) == (400, "upload_not_pending")
        assert "pending" in reply.error["message"]


async def test_parts_are_joined_in_the_order_listed(tmp_path: Path) -> None:
    """The order of part_ids makes the file, whatever the order of arrival; the md5 agrees."""
    async with service(tmp_path) as api:
        upload_id = (await api.create(10)).id
        last = (await api.part(upload_id, DATA[7:])).id
        await api.part(upload_id, b"orphan")
        first = (await api.part(upload_id, DATA[:7])).id
        md5 = hashlib.md5(DATA, usedforsecurity=False).hexdigest()
        done = await api.complete(upload_id, first, last, md5=md5)
        file_id = done.document["file"]["id"]
        state = await api.state()
        assert [part["listed"] for part in state["uploads"][0]["parts"]] == [True, False, True]
        assert state["files"][0]["md5"] == md5
        folder = tmp_path / "files" / file_id
        assert (folder / "content").read_bytes() == DATA
        assert json.loads((folder / "meta.json").read_text())["md5"] == md5
        left = sorted(path.name for path in (tmp_path / "uploads" / upload_id).iterdir())
        assert all(name.endswith(".json") for name in left)
        assert list((tmp_path / "incoming").iterdir()) == []


async def test_wrong_md5_leaves_nothing_behind(tmp_path: Path) -> None:
    """A refused complete leaves no file and no bytes behind, and may be tried again."""
    async with service(tmp_path) as api:
        upload_id = (await api.create(10)).id
        part_id = (await api.part(upload_id, DATA)).id
        refused = await api.complete(upload_id, part_id, md5="0" * 32)
        assert (refused.status, refused.error["param"]) == (400, "md5")
        assert list((tmp_path / "incoming").iterdir()) == []
        assert list((tmp_path / "files").iterdir()) == []
        assert (await api.complete(upload_id, part_id)).status == 200


async def test_expired_status_is_shown(tmp_path: Path) -> None:
    """An upload whose hour is over is expired without anyone asking for it."""
    async with service(tmp_path) as api:
        await api.create()
        api.emulator.clock.advance(3600)
        assert (await api.state())["uploads"][0]["status"] == "expired"


@pytest.mark.parametrize(
    ("header", "status", "code"),
    [
        ("Bearer sk-right", 200, None),
        ("bearer sk-right", 200, None),
        ("Bearer sk-wrong", 401, "invalid_api_key"),
        ("Bearer \udcff", 401, "invalid_api_key"),
        ("Basic sk-right", 401, None),
        ("Bearer ", 401, None),
    ],
)
async def test_key(tmp_path: Path, header: str, status: int, code: str | None) -> None:
    """With a key set only that key is let in, and the refusal never repeats a key."""
    async with service(tmp_path, api_key="sk-right") as api:
        text = header.encode(errors="surrogateescape").decode("latin-1")
        reply = await api.call("GET", "/files", headers={"Authorization": text})
        assert reply.status == status
        if status == 401:
            assert reply.error["type"] == "invalid_request_error"
            assert reply.error["code"] == code
            assert "sk-" not in reply.text


async def test_any_key_but_none(tmp_path: Path) -> None:
    """Without a key set any key will do, but one must be given."""
    async with service(tmp_path) as api:
        assert (await api.create()).status == 200
        reply = await api.call("GET", "/files", headers={"Authorization": ""})
        assert reply.status == 401


async def _file(api: Api, name: str, purpose: str = "user_data") -> str:
    return str((await api.whole(filename=name, purpose=purpose)).document["file"]["id"])


async def test_list_of_files(tmp_path: Path) -> None:
    """Files are listed by purpose, newest first unless asked, page by page."""
    async with service(tmp_path) as api:
        ids = []
        for number in range(5):
            ids.append(await _file(api, f"{number}.txt"))
            api.emulator.clock.advance(1)
        image = await _file(api, "a.png", "vision")
        listed = (await api.call("GET", "/files")).document
        assert [file["id"] for file in listed["data"]] == [image, *reversed(ids)]
        assert (listed["object"], listed["has_more"]) == ("list", False)
        assert (listed["first_id"], listed["last_id"]) == (image, ids[0])
        query = "/files?purpose=user_data&order=asc&limit=2"
        page = (await api.call("GET", query)).document
        seen = []
        while True:
            seen += [file["id"] for file in page["data"]]
            if not page["has_more"]:
                break
            page = (await api.call("GET", f"{query}&after={page['last_id']}")).document
        assert seen == ids
        empty = (await api.call("GET", "/files?purpose=evals")).document
        assert (empty["data"], empty["first_id"], empty["last_id"]) == ([], None, None)


@pytest.mark.parametrize(
    ("query", "status", "param"),
    [
        ("limit=0", 400, "limit"),
        ("limit=10001", 400, "limit"),
        ("limit=ten", 400, "limit"),
        ("order=up", 400, "order"),
        ("after=file-none", 404, "after"),
    ],
)
async def test_list_refuses(tmp_path: Path, query: str, status: int, param: str) -> None:
    """A wrong query is refused and named."""
    async with service(tmp_path) as api:
        reply = await api.call("GET", f"/files?{query}")
        assert (reply.status, reply.error["param"]) == (status, param)


async def test_one_file(tmp_path: Path) -> None:
    """A file can be shown, downloaded if its purpose allows, deleted, and is then gone."""
    async with service(tmp_path) as api:
        image, text = await _file(api, "a.png", "vision"), await _file(api, "a.txt")
        assert (await api.call("GET", f"/files/{image}")).id == image
        content = await api.call("GET", f"/files/{image}/content")
        assert (content.status, content.text) == (200, DATA.decode())
        refused = await api.call("GET", f"/files/{text}/content")
        assert refused.status == 400
        assert "Not allowed to download files of purpose: user_data" in refused.error["message"]
        deleted = await api.call("DELETE", f"/files/{image}")
        assert deleted.document == {"id": image, "object": "file", "deleted": True}
        for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
            gone = await api.call(method, f"/files/{image}{path}")
            assert (gone.status, gone.error["param"]) == (404, "id")
            assert gone.error["message"] == f"No such File object: {image}"


async def test_file_life(tmp_path: Path) -> None:
    """A file that asked for a life ends with it, from the list as well."""
    async with service(tmp_path) as api:
        life = {"anchor": "created_at", "seconds": 3600}
        file = (await api.whole(expires_after=life)).document["file"]
        assert file["expires_at"] == file["created_at"] + 3600
        api.emulator.clock.advance(3600)
        assert (await api.call("GET", f"/files/{file['id']}")).status == 404
        assert (await api.call("GET", "/files")).document["data"] == []


async def test_post_files(tmp_path: Path) -> None:
    """A small file may come whole, with its purpose and its life beside it."""
    async with service(tmp_path) as api:
        form = form_of(DATA, field="file")
        form.add_field("purpose", "evals")
        form.add_field("expires_after[anchor]", "created_at")
        form.add_field("expires_after[seconds]", "3600")
        file = (await api.call("POST", "/files", data=form)).document
        assert (file["bytes"], file["filename"], file["purpose"]) == (10, "upload", "evals")
        assert file["expires_at"] == file["created_at"] + 3600
        state = await api.state()
        assert state["files"][0]["md5"] == hashlib.md5(DATA, usedforsecurity=False).hexdigest()
        assert (state["bytes_received"], state["files_created"]) == (10, 1)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "purpose"),
        ({"purpose": "fun"}, "purpose"),
        ({"purpose": "batch"}, "filename"),
        ({"purpose": "evals", "colour": "red"}, "colour"),
        ({"purpose": "evals", "expires_after[seconds]": "soon"}, "expires_after.seconds"),
        ({"purpose": "evals", "expires_after[seconds]": "3600"}, "expires_after.anchor"),
    ],
)
async def test_post_files_refuses(tmp_path: Path, fields: dict[str, str], param: str) -> None:
    """A whole file with wrong fields beside it is refused, and nothing is kept."""
    async with service(tmp_path) as api:
        form = form_of(DATA, field="file")
        for name, value in fields.items():
            form.add_field(name, value)
        reply = await api.call("POST", "/files", data=form)
        assert (reply.status, reply.error["param"]) == (400, param)
        assert list((tmp_path / "incoming").iterdir()) == []


async def test_azure_paths_keys_and_errors(tmp_path: Path) -> None:
    """Azure's profile has both path forms, its own key header, ids, hours and error extras."""
    async with service(tmp_path, profile="azure", api_key="right") as api:
        body = {
            "filename": "a.txt",
            "purpose": "user_data",
            "bytes": 10,
            "mime_type": "text/plain",
        }
        key = {"api-key": "right"}
        paths = ("//openai/uploads?api-version=1", "//openai/v1/uploads", "/uploads")
        upload_id = ""
        for path in paths:
            upload = await api.call("POST", path, json=body, headers=key)
            assert re.fullmatch(r"fine-tune-[0-9a-f]{32}", upload.id)
            assert upload.document["expires_at"] - upload.document["created_at"] == 7200
            upload_id = upload.id
        undated = await api.call("POST", "//openai/uploads", json=body, headers=key)
        assert undated.status == 404
        wrong = await api.call("POST", paths[1], json=body, headers={"api-key": "wrong"})
        assert wrong.status == 401
        refused = await api.call("POST", paths[1], json={**body, "bytes": -1}, headers=key)
        assert {"target", "details", "innererror"} <= set(refused.error)
        assert refused.error["target"] == "bytes"
        path = f"//openai/v1/uploads/{upload_id}"
        part = await api.call("POST", f"{path}/parts", data=form_of(DATA), headers=key)
        assert re.fullmatch(r"uplprt-[0-9a-f]{32}", part.id)
        done = await api.call(
            "POST",
            f"{path}/complete",
            json={"part_ids": [part.document["azure_block_id"]]},
            headers=key,
        )
        assert done.document["status"] == "completed"


async def test_azure_paths_are_azures(tmp_path: Path) -> None:
    """The other profiles know nothing of Azure's paths."""
    async with service(tmp_path) as api:
        assert (await api.call("GET", "//openai/v1/files")).status == 404
