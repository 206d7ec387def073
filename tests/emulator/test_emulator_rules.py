"""Each knob of the rules: what the service answers for each of its values."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from tests.emulator.kit import Api, Reply, form_of, service
from uploaderd.emulator import PROFILES, Rules, rules_for
from uploaderd.emulator.rules import Answer, Refused
from uploaderd.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from enum import StrEnum

    Scenario = Callable[[Api], Awaitable[Any]]

DATA = b"0123456789"
MD5 = hashlib.md5(DATA, usedforsecurity=False)
MD5_BASE64 = base64.b64encode(MD5.digest()).decode()


async def _unknown_key(api: Api) -> int:
    return (await api.create(colour="red")).status


async def _empty_file(api: Api) -> int:
    return (await api.create(0)).status


async def _a_byte_over_eight_gib(api: Api) -> int:
    return (await api.create((8 << 30) + 1)).status


async def _empty_part(api: Api) -> int:
    return (await api.part((await api.create()).id, b"")).status


async def _part_over_max(api: Api) -> int:
    upload_id = (await api.create(5000)).id
    return (await api.part(upload_id, bytes(1001))).status


async def _part_after_cancel(api: Api) -> int:
    upload_id = (await api.create()).id
    await api.cancel(upload_id)
    return (await api.part(upload_id, DATA)).status


async def _chunked_part(api: Api) -> int:
    upload_id = (await api.create()).id
    reply = await api.call("POST", f"/uploads/{upload_id}/parts", data=form_of(DATA), chunked=True)
    return reply.status


async def _unknown_part(api: Api) -> int:
    upload_id = (await api.create()).id
    return (await api.complete(upload_id, "part_" + "0" * 32)).status


async def _foreign_part(api: Api) -> int:
    upload_id, other_id = (await api.create()).id, (await api.create()).id
    part_id = (await api.part(other_id, DATA)).id
    return (await api.complete(upload_id, part_id)).status


async def _duplicate_part(api: Api) -> int:
    upload_id = (await api.create()).id
    part_id = (await api.part(upload_id, DATA[:5])).id
    return (await api.complete(upload_id, part_id, part_id)).status


async def _complete_twice(api: Api) -> int:
    first = await api.whole()
    again = await api.complete(first.id, "part_any")
    if again.status == 200:
        assert again.document["file"]["id"] == first.document["file"]["id"]
    assert len((await api.state())["files"]) == 1
    return again.status


async def _complete_cancelled(api: Api) -> int:
    upload_id = (await api.create()).id
    part_id = (await api.part(upload_id, DATA)).id
    await api.cancel(upload_id)
    return (await api.complete(upload_id, part_id)).status


async def _cancel_completed(api: Api) -> int:
    upload_id = (await api.whole()).id
    status = (await api.cancel(upload_id)).status
    assert (await api.state())["uploads"][0]["status"] == "completed"
    return status


async def _cancel_twice(api: Api) -> int:
    upload_id = (await api.create()).id
    await api.cancel(upload_id)
    return (await api.cancel(upload_id)).status


async def _after_expiry(api: Api) -> int:
    upload_id = (await api.create()).id
    part_id = (await api.part(upload_id, DATA)).id
    api.emulator.clock.advance(3600)
    replies = [
        await api.part(upload_id, DATA),
        await api.complete(upload_id, part_id),
        await api.cancel(upload_id),
    ]
    assert len({reply.status for reply in replies}) == 1
    return replies[0].status


STATUS_KNOBS: list[tuple[str, type[StrEnum], Scenario]] = [
    ("empty_file", Answer, _empty_file),
    ("bytes_over_max", Refused, _a_byte_over_eight_gib),
    ("empty_part", Answer, _empty_part),
    ("part_over_max", Refused, _part_over_max),
    ("part_after_end", Refused, _part_after_cancel),
    ("chunked_parts", Answer, _chunked_part),
    ("unknown_part", Refused, _unknown_part),
    ("foreign_part", Answer, _foreign_part),
    ("duplicate_part", Answer, _duplicate_part),
    ("complete_twice", Answer, _complete_twice),
    ("complete_cancelled", Refused, _complete_cancelled),
    ("cancel_completed", Answer, _cancel_completed),
    ("cancel_twice", Answer, _cancel_twice),
    ("after_expiry", Refused, _after_expiry),
]


@pytest.mark.parametrize(
    ("knob", "value", "scenario"),
    [
        pytest.param(knob, value, scenario, id=f"{knob}={value}")
        for knob, kind, scenario in STATUS_KNOBS
        for value in kind
    ],
)
async def test_status_knob(tmp_path: Path, knob: str, value: StrEnum, scenario: Scenario) -> None:
    """A knob that chooses a status makes its case answer exactly that status."""
    async with service(tmp_path, "part_max_bytes=1000", f"{knob}={value}") as api:
        assert await scenario(api) == int(value)


async def _six_and_six_of_ten(api: Api) -> list[int]:
    """Send two parts of 6 bytes, one of 11, then complete with one of 6 and one of 4."""
    upload_id = (await api.create(10)).id
    replies = [await api.part(upload_id, bytes(size)) for size in (6, 6, 11, 4)]
    return [reply.status for reply in replies]


async def _short_sum(api: Api) -> tuple[int, str, int]:
    upload_id = (await api.create(10)).id
    part_id = (await api.part(upload_id, DATA[:9])).id
    return await _completed(api, upload_id, part_id)


async def _wrong_md5(api: Api) -> tuple[int, str, int]:
    upload_id = (await api.create(10)).id
    part_id = (await api.part(upload_id, DATA)).id
    return await _completed(api, upload_id, part_id, md5="0" * 32)


async def _completed(
    api: Api, upload_id: str, part_id: str, **more: object
) -> tuple[int, str, int]:
    """Return the status of complete, the upload's state, and how many files turn faulty."""
    status = (await api.complete(upload_id, part_id, **more)).status
    statuses = [one["status"] for one in (await api.state())["files"]]
    assert "error" not in statuses
    api.emulator.clock.advance(2)
    state = await api.state()
    faulty = [one for one in state["files"] if one["status"] == "error"]
    return status, state["uploads"][0]["status"], len(faulty)


async def _both_md5_forms(api: Api) -> list[int]:
    statuses = []
    for md5 in (MD5.hexdigest().upper(), MD5_BASE64):
        upload_id = (await api.create(10)).id
        part_id = (await api.part(upload_id, DATA)).id
        statuses.append((await api.complete(upload_id, part_id, md5=md5)).status)
    return statuses


async def _an_orphan(api: Api) -> int:
    upload_id = (await api.create(10)).id
    await api.part(upload_id, DATA)
    part_id = (await api.part(upload_id, DATA)).id
    return (await api.complete(upload_id, part_id)).status


async def _out_of_order(api: Api) -> int:
    upload_id = (await api.create(10)).id
    last_id = (await api.part(upload_id, DATA[5:])).id
    first_id = (await api.part(upload_id, DATA[:5])).id
    return (await api.complete(upload_id, first_id, last_id)).status


async def _refused_while_sending(api: Api) -> tuple[bool, bool]:
    """Return whether the body was read to its end, and whether the connection stayed open."""
    upload_id = (await api.create(10)).id
    body = bytes(8 << 20)
    try:
        reply: Reply | None = await api.part(upload_id, body)
    except aiohttp.ClientError:
        reply = None
    if reply is not None:
        assert reply.status == 400
    attempt = api.emulator.stats.part_attempts(upload_id)[0]
    assert attempt.status == 400
    open_ = reply is not None and reply.headers.get("Connection") != "close"
    return attempt.bytes_received > len(body) // 2, open_


async def _sizes_shown(api: Api) -> list[int | None]:
    file = (await api.whole()).document["file"]
    listed = (await api.call("GET", "/files")).document["data"][0]
    return [file["bytes"], listed["bytes"]]


async def _pending_upload(api: Api) -> dict[str, Any]:
    document: dict[str, Any] = (await api.create()).document
    return {name: document[name] for name in document if name == "file"}


async def _listed_in_order(api: Api) -> list[int]:
    """Return the places, by creation, of five files of one second as they are listed."""
    ids: list[str] = []
    while len(ids) < 5:
        files = [(await api.whole()).document["file"] for _ in range(5)]
        ids = [file["id"] for file in files if file["created_at"] == files[0]["created_at"]]
    listed = (await api.call("GET", "/files?order=asc")).document["data"]
    order = [file["id"] for file in listed if file["id"] in ids]
    for file_id in ids:
        assert order.count(file_id) == 1
    return [ids.index(file_id) for file_id in order]


async def _downloads(api: Api) -> list[int]:
    statuses = []
    for purpose, name in (("user_data", "a.txt"), ("vision", "a.png")):
        file_id = (await api.whole(purpose=purpose, filename=name)).document["file"]["id"]
        statuses.append((await api.call("GET", f"/files/{file_id}/content")).status)
    return statuses


async def _id_shapes(api: Api) -> list[str]:
    upload_id = (await api.create()).id
    part_id = (await api.part(upload_id, DATA)).id
    return [upload_id.removesuffix(upload_id[-32:]), part_id.removesuffix(part_id[-32:])]


@pytest.mark.parametrize(
    ("setting", "scenario", "expected"),
    [
        ("beyond_bytes=each_part", _six_and_six_of_ten, [200, 200, 400, 200]),
        ("beyond_bytes=all_parts", _six_and_six_of_ten, [200, 400, 400, 200]),
        ("beyond_bytes=at_complete", _six_and_six_of_ten, [200, 200, 200, 200]),
        ("sum_mismatch=refuse", _short_sum, (400, "pending", 0)),
        ("sum_mismatch=refuse_and_cancel", _short_sum, (400, "cancelled", 0)),
        ("sum_mismatch=accept", _short_sum, (200, "completed", 0)),
        ("sum_mismatch=error_later", _short_sum, (200, "completed", 1)),
        ("wrong_md5=refuse", _wrong_md5, (400, "pending", 0)),
        ("wrong_md5=refuse_and_cancel", _wrong_md5, (400, "cancelled", 0)),
        ("wrong_md5=accept", _wrong_md5, (200, "completed", 0)),
        ("wrong_md5=error_later", _wrong_md5, (200, "completed", 1)),
        ("md5_form=hex", _both_md5_forms, [200, 400]),
        ("md5_form=base64", _both_md5_forms, [400, 200]),
        ("md5_form=either", _both_md5_forms, [200, 200]),
        ("orphans=ignored", _an_orphan, 200),
        ("orphans=counted", _an_orphan, 400),
        ("part_order=free", _out_of_order, 200),
        ("part_order=arrival", _out_of_order, 400),
        ("part_refusal=after_body", _refused_while_sending, (True, True)),
        ("part_refusal=before_body", _refused_while_sending, (False, False)),
        ("file_bytes=always", _sizes_shown, [10, 10]),
        ("file_bytes=null_in_complete", _sizes_shown, [None, 10]),
        ("file_bytes=null_everywhere", _sizes_shown, [None, None]),
        ("no_file=null", _pending_upload, {"file": None}),
        ("no_file=absent", _pending_upload, {}),
        ("same_second=created", _listed_in_order, [0, 1, 2, 3, 4]),
        ("same_second=reversed", _listed_in_order, [4, 3, 2, 1, 0]),
        ("content=by_purpose", _downloads, [400, 200]),
        ("content=all", _downloads, [200, 200]),
        ("content=none", _downloads, [400, 400]),
        ("unknown_keys_refused=true", _unknown_key, 400),
        ("unknown_keys_refused=false", _unknown_key, 200),
        ("flavour=openai", _id_shapes, ["upload_", "part_"]),
        ("flavour=azure", _id_shapes, ["fine-tune-", "uplprt-"]),
    ],
)
async def test_choice_knob(
    tmp_path: Path, setting: str, scenario: Scenario, expected: object
) -> None:
    """A knob that chooses a behaviour makes its case go exactly that way."""
    async with service(tmp_path, setting) as api:
        assert await scenario(api) == expected


async def test_same_second_shuffled(tmp_path: Path) -> None:
    """Shuffled files of one second keep one order from list to list, and it is by no date."""
    async with service(tmp_path, "same_second=shuffled") as api:
        orders = [await _listed_in_order(api) for _ in range(4)]
        assert any(order not in ([0, 1, 2, 3, 4], [4, 3, 2, 1, 0]) for order in orders)
        first = (await api.call("GET", "/files")).text
        assert (await api.call("GET", "/files")).text == first


async def test_life_s(tmp_path: Path) -> None:
    """An upload lives for `life_s` to the second, and tells when it ends."""
    async with service(tmp_path, "life_s=100") as api:
        upload = await api.create()
        assert upload.document["expires_at"] == upload.document["created_at"] + 100
        api.emulator.clock.advance(98)
        assert (await api.part(upload.id, DATA)).status == 200
        api.emulator.clock.advance(2)
        assert (await api.part(upload.id, DATA)).status == 400


async def test_upload_max_bytes(tmp_path: Path) -> None:
    """An upload may declare `upload_max_bytes` and not a byte more; the refusal names bytes."""
    async with service(tmp_path, "upload_max_bytes=1000") as api:
        assert (await api.create(1000)).status == 200
        refused = await api.create(1001)
        assert refused.status == 400
        assert refused.error["param"] == "bytes"


async def test_part_max_bytes(tmp_path: Path) -> None:
    """A part may have `part_max_bytes` and not a byte more."""
    async with service(tmp_path, "part_max_bytes=1000") as api:
        upload_id = (await api.create(5000)).id
        assert (await api.part(upload_id, bytes(1000))).status == 200
        assert (await api.part(upload_id, bytes(1001))).status == 413


async def test_file_max_bytes(tmp_path: Path) -> None:
    """A file sent in one request may have `file_max_bytes` and not a byte more."""
    async with service(tmp_path, "file_max_bytes=1000") as api:
        statuses = []
        for size in (1000, 1001):
            form = form_of(bytes(size), field="file")
            form.add_field("purpose", "user_data")
            statuses.append((await api.call("POST", "/files", data=form)).status)
        assert statuses == [200, 413]


async def test_batch_max_bytes(tmp_path: Path) -> None:
    """A batch file has a limit of its own, below that of other uploads."""
    async with service(tmp_path, "batch_max_bytes=1000") as api:
        batch = {"purpose": "batch", "filename": "a.jsonl"}
        assert (await api.create(1000, **batch)).status == 200
        assert (await api.create(1001, **batch)).status == 400
        assert (await api.create(1001)).status == 200


async def test_batch_life_s(tmp_path: Path) -> None:
    """A batch file that asked for no expiry has one all the same; zero means for ever."""
    batch: dict[str, Any] = {"purpose": "batch", "filename": "a.jsonl"}
    async with service(tmp_path / "a", "batch_life_s=50") as api:
        file = (await api.whole(**batch)).document["file"]
        assert file["expires_at"] - file["created_at"] == 50
        api.emulator.clock.advance(50)
        assert (await api.call("GET", f"/files/{file['id']}")).status == 404
        assert "expires_at" not in (await api.whole()).document["file"]
    async with service(tmp_path / "b", "batch_life_s=0") as api:
        assert "expires_at" not in (await api.whole(**batch)).document["file"]


async def test_error_after_s(tmp_path: Path) -> None:
    """A faulty file shows the status error after `error_after_s`, and says why."""
    async with service(tmp_path, "wrong_md5=error_later", "error_after_s=60") as api:
        upload_id = (await api.create(10)).id
        part_id = (await api.part(upload_id, DATA)).id
        file = (await api.complete(upload_id, part_id, md5="0" * 32)).document["file"]
        assert (file["status"], file["status_details"]) == ("processed", None)
        api.emulator.clock.advance(60)
        file = (await api.call("GET", f"/files/{file['id']}")).document
        assert file["status"] == "error"
        assert "checksum" in file["status_details"]


async def test_processing_s(tmp_path: Path) -> None:
    """A file's status lags behind by `processing_s`."""
    async with service(tmp_path, "processing_s=60") as api:
        file = (await api.whole()).document["file"]
        assert file["status"] == "uploaded"
        api.emulator.clock.advance(60)
        assert (await api.call("GET", f"/files/{file['id']}")).document["status"] == "processed"


async def test_list_lag_s(tmp_path: Path) -> None:
    """A new file shows in the list after `list_lag_s`, though it can be retrieved at once."""
    async with service(tmp_path, "list_lag_s=60") as api:
        file_id = (await api.whole()).document["file"]["id"]
        assert (await api.call("GET", "/files")).document["data"] == []
        assert (await api.call("GET", f"/files/{file_id}")).status == 200
        api.emulator.clock.advance(60)
        assert len((await api.call("GET", "/files")).document["data"]) == 1


async def test_file_created_status(tmp_path: Path) -> None:
    """POST /files answers with `file_created_status`."""
    async with service(tmp_path, "file_created_status=201") as api:
        form = form_of(DATA, field="file")
        form.add_field("purpose", "user_data")
        assert (await api.call("POST", "/files", data=form)).status == 201


@pytest.mark.parametrize(("value", "status"), [("true", 400), ("false", 200)])
async def test_checks_of_the_name_and_the_type(tmp_path: Path, value: str, status: int) -> None:
    """`extension_rules` and `mime_check` switch those checks off and on."""
    async with service(tmp_path, f"extension_rules={value}", f"mime_check={value}") as api:
        wrong_name = await api.create(purpose="batch", filename="a.txt")
        wrong_type = await api.create(mime_type="text")
        assert (wrong_name.status, wrong_type.status) == (status, status)


@pytest.mark.parametrize(("value", "status"), [("true", 400), ("false", 200)])
async def test_part_type_required(tmp_path: Path, value: str, status: int) -> None:
    """`part_type_required` refuses a part without a Content-Type of its own."""
    body = b'--B\r\nContent-Disposition: form-data; name="data"\r\n\r\n0123456789\r\n--B--\r\n'
    async with service(tmp_path, f"part_type_required={value}") as api:
        reply = await api.call(
            "POST",
            f"/uploads/{(await api.create()).id}/parts",
            data=body,
            headers={"Content-Type": "multipart/form-data; boundary=B"},
        )
        assert reply.status == status


async def test_expiry_nonsense(tmp_path: Path) -> None:
    """`expiry_nonsense` shows an end before the beginning, but the upload lives on."""
    async with service(tmp_path, "expiry_nonsense=true") as api:
        upload = await api.create()
        assert upload.document["expires_at"] < upload.document["created_at"]
        assert (await api.part(upload.id, DATA)).status == 200


async def test_error_detail(tmp_path: Path) -> None:
    """`error_detail` puts a sibling beside the error of a 400, and of a 400 only."""
    async with service(tmp_path, "error_detail=true") as api:
        assert "detail" in (await api.create(-1)).document
        assert "detail" not in (await api.cancel("upload_none")).document
    async with service(tmp_path) as api:
        assert "detail" not in (await api.create(-1)).document


@pytest.mark.parametrize("value", ["true", "false"])
async def test_rate_limit_headers(tmp_path: Path, value: str) -> None:
    """`rate_limit_headers` adds the headers that are not promised."""
    async with service(tmp_path, f"rate_limit_headers={value}") as api:
        headers = (await api.create()).headers
        assert ("x-ratelimit-remaining-requests" in headers) == (value == "true")


def test_every_knob_has_a_test() -> None:
    """No knob of the rules goes untested in this file."""
    tested = Path(__file__).read_text(encoding="utf-8")
    status_knobs = {knob for knob, _, _ in STATUS_KNOBS}
    for field in fields(Rules):
        assert field.name in status_knobs or f'"{field.name}=' in tested, field.name


@pytest.mark.parametrize("profile", sorted(PROFILES))
async def test_profile_lets_a_plain_upload_through(tmp_path: Path, profile: str) -> None:
    """Whatever the profile, a well-behaved client gets its file, with the right md5."""
    async with service(tmp_path, profile=profile) as api:
        upload_id = (await api.create(10)).id
        ids = [(await api.part(upload_id, data)).id for data in (DATA[:5], DATA[5:])]
        reply = await api.complete(upload_id, *ids, md5=MD5.hexdigest())
        assert reply.document["status"] == "completed"
        assert (await api.state())["files"][0]["md5"] == MD5.hexdigest()


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("beyond_bytes", "'beyond_bytes' is not of the form NAME=VALUE"),
        ("colour=red", "no rule 'colour': choose one of flavour, life_s"),
        ("orphans=eaten", "orphans is one of ignored, counted, not 'eaten'"),
        ("mime_check=yes", "mime_check is true or false, not 'yes'"),
        ("part_max_bytes=64MB", "part_max_bytes is a whole number, zero or more, not '64MB'"),
        ("life_s=-1", "life_s is a number, zero or more, not '-1'"),
        ("life_s=nan", "life_s is a number, zero or more, not 'nan'"),
    ],
)
def test_wrong_setting(setting: str, words: str) -> None:
    """A wrong rule is refused in one sentence that names what is wrong and what is allowed."""
    with pytest.raises(UsageError) as caught:
        rules_for("openai", [setting])
    assert words in str(caught.value)


def test_wrong_profile() -> None:
    """An unknown profile is refused with the names of all."""
    with pytest.raises(UsageError, match="azure, lenient, openai, restful, strict"):
        rules_for("postel")
