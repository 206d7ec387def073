"""The service itself: what each call does to the store, without any HTTP."""

from __future__ import annotations

import asyncio
import hashlib
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from uploaderd.emulator import judge, objects
from uploaderd.emulator.objects import File, Part, Upload, UploadStatus
from uploaderd.emulator.purposes import NOT_DOWNLOADABLE, check_extension, check_purpose
from uploaderd.emulator.refusals import Refusal, no_file, no_upload, not_pending
from uploaderd.emulator.rules import (
    Answer,
    Content,
    Mismatch,
    RefusalTime,
    Refused,
    SameSecond,
)
from uploaderd.emulator.store import md5_of

if TYPE_CHECKING:
    from pathlib import Path

    from uploaderd.emulator.clock import Clock
    from uploaderd.emulator.rules import Rules
    from uploaderd.emulator.stats import Stats
    from uploaderd.emulator.store import Assembled, Draft, Store

Document = dict[str, object]


class Service:
    """The upload and file calls. Each raises Refusal where the service would refuse.

    Records change on the event loop only, and one upload's calls that change it take turns; the
    joining of parts is left to a thread.
    """

    def __init__(self, store: Store, rules: Rules, clock: Clock, stats: Stats) -> None:
        self.store = store
        self.rules = rules
        self.clock = clock
        self.stats = stats
        self._joining: set[str] = set()
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def create(self, body: object) -> Document:
        """Open an upload."""
        asked = judge.read_create(body, self.rules)
        now_s = self.clock.now()
        upload = Upload(
            id=objects.upload_id(self.rules),
            bytes=asked.bytes,
            filename=asked.filename,
            purpose=asked.purpose,
            mime_type=asked.mime_type,
            created_s=now_s,
            expires_s=now_s + self.rules.life_s,
            file_life_s=asked.file_life_s,
        )
        self.store.put_upload(upload)
        self.stats.uploads_created += 1
        return self._show(upload)

    def expect_part(self, upload_id: str, length: int | None) -> None:
        """Refuse a part before its body, where the rules do so; `length` is the request's."""
        chunked = self.rules.chunked_parts
        if length is None and chunked is not Answer.ACCEPT:
            raise Refusal("A Content-Length is required.", status=int(chunked))
        if self.rules.part_refusal is RefusalTime.BEFORE_BODY:
            self.check_part(upload_id, 0, whole=False)

    def check_part(self, upload_id: str, part_bytes: int, *, whole: bool = True) -> None:
        """Refuse a part of so many bytes; of one that is not whole yet, only what is certain."""
        upload = self._current(upload_id)
        judge.check_part_state(upload, self.rules)
        if whole or part_bytes:
            stored = self.store.stored_bytes[upload_id]
            judge.check_part(upload, part_bytes, stored, self.rules)

    async def add_part(self, upload_id: str, draft: Draft) -> Document:
        """Store a part whose body has been read."""
        async with self._turns[upload_id]:
            self.check_part(upload_id, draft.bytes)
            number = len(self.store.parts_of[upload_id]) + 1
            id_ = objects.part_id(self.rules)
            part = Part(
                id=id_,
                upload_id=upload_id,
                number=number,
                bytes=draft.bytes,
                created_s=self.clock.now(),
                block_id=_block_id(id_) if self.rules.azure else "",
            )
            self.store.put_part(part, draft)
            return objects.show_part(part)

    async def complete(self, upload_id: str, body: object) -> Document:
        """Join the listed parts into a file."""
        asked = judge.read_complete(body, self.rules)
        async with self._turns[upload_id]:
            upload = self._current(upload_id)
            if (again := self._check_completable(upload)) is not None:
                return again
            own = self.store.parts_of[upload_id]
            ids = self._part_ids(asked.part_ids, own)
            chosen = judge.choose_parts(upload, ids, self.store.parts, self.rules)
            wrong_sum = judge.sum_refusal(upload, chosen, own, self.rules)
            faulty = self._mismatch(upload, wrong_sum, self.rules.sum_mismatch)
            whole = await self._join(upload, chosen)
            try:
                wrong_md5 = None
                if asked.md5 is not None and not judge.md5_matches(
                    asked.md5, whole.md5, self.rules
                ):
                    wrong_md5 = Refusal("The md5 does not match the uploaded bytes.", param="md5")
                faulty |= self._mismatch(upload, wrong_md5, self.rules.wrong_md5)
                file = self._file_of(upload, whole, faulty=faulty)
                self.store.put_file(file, whole.path)
                self.stats.files_created += 1
            finally:
                whole.path.unlink(missing_ok=True)
            upload = replace(
                upload, status=UploadStatus.COMPLETED, file_id=file.id, part_ids=tuple(ids)
            )
            self.store.put_upload(upload)
            return self._show(upload)

    async def cancel(self, upload_id: str) -> Document:
        """End an upload without a file."""
        async with self._turns[upload_id]:
            upload = self._current(upload_id)
            if upload.status is UploadStatus.EXPIRED:
                raise not_pending(upload.id, upload.status, int(self.rules.after_expiry))
            if upload.status is UploadStatus.PENDING:
                upload = replace(upload, status=UploadStatus.CANCELLED)
                self.store.put_upload(upload)
                return self._show(upload)
            done = upload.status is UploadStatus.COMPLETED
            answer = self.rules.cancel_completed if done else self.rules.cancel_twice
            if answer is not Answer.ACCEPT:
                raise not_pending(upload.id, upload.status, int(answer))
            return self._show(upload)

    def expire(self, upload_id: str) -> None:
        """Let an upload's time run out now; not that of one that is over or being completed."""
        upload = self.store.uploads.get(upload_id)
        if upload_id in self._joining or upload is None:
            return
        if upload.status is UploadStatus.PENDING:
            self.store.put_upload(replace(upload, status=UploadStatus.EXPIRED))

    def expire_due(self) -> None:
        """Let every upload and file whose time is over end."""
        now_s = self.clock.now()
        for upload in list(self.store.uploads.values()):
            if now_s >= upload.expires_s:
                self.expire(upload.id)
        for file in list(self.store.files.values()):
            if file.expires_s is not None and now_s >= file.expires_s:
                self.store.drop_file(file.id)

    async def add_file(
        self, draft: Draft, *, filename: str, purpose: str, life_s: int | None
    ) -> Document:
        """Keep a whole file that came in one request."""
        judge.check_filename(filename)
        check_purpose(purpose)
        if self.rules.extension_rules:
            check_extension(purpose, filename)
        judge.check_size(draft.bytes, purpose, self.rules)
        md5 = await asyncio.to_thread(md5_of, draft.path)
        file = self._new_file(
            size=draft.bytes, md5=md5, filename=filename, purpose=purpose, life_s=life_s
        )
        self.store.put_file(file, draft.path)
        self.stats.files_created += 1
        return self._show_file(file)

    def list_files(self, asked: judge.ListRequest) -> Document:
        """List files, newest first unless asked otherwise."""
        self.expire_due()
        seen_by_s = self.clock.now() - self.rules.list_lag_s
        found = [
            file
            for file in self.store.files.values()
            if asked.purpose in {None, file.purpose} and file.created_s <= seen_by_s
        ]
        found.sort(key=self._position, reverse=asked.newest_first)
        if asked.after is not None:
            ids = [file.id for file in found]
            if asked.after not in ids:
                raise no_file(asked.after, param="after")
            found = found[ids.index(asked.after) + 1 :]
        page = found[: asked.limit]
        return {
            "object": "list",
            "data": [self._show_file(file) for file in page],
            "first_id": page[0].id if page else None,
            "last_id": page[-1].id if page else None,
            "has_more": len(found) > len(page),
        }

    def retrieve_file(self, file_id: str) -> Document:
        """Show one file."""
        return self._show_file(self._file(file_id))

    def delete_file(self, file_id: str) -> Document:
        """Delete one file."""
        self.store.drop_file(self._file(file_id).id)
        return {"id": file_id, "object": "file", "deleted": True}

    def content(self, file_id: str) -> Path:
        """Return where a file's bytes are, unless its purpose forbids the download."""
        file = self._file(file_id)
        forbidden = file.purpose in NOT_DOWNLOADABLE
        if self.rules.content is Content.NONE or (
            self.rules.content is Content.BY_PURPOSE and forbidden
        ):
            raise Refusal(f"Not allowed to download files of purpose: {file.purpose}")
        return self.store.content_path(file)

    def _current(self, upload_id: str) -> Upload:
        if upload_id not in self.store.uploads:
            raise no_upload(upload_id)
        if self.clock.now() >= self.store.uploads[upload_id].expires_s:
            self.expire(upload_id)
        return self.store.uploads[upload_id]

    def _check_completable(self, upload: Upload) -> Document | None:
        if upload.status is UploadStatus.PENDING:
            return None
        answers: dict[UploadStatus, Answer | Refused] = {
            UploadStatus.COMPLETED: self.rules.complete_twice,
            UploadStatus.CANCELLED: self.rules.complete_cancelled,
            UploadStatus.EXPIRED: self.rules.after_expiry,
        }
        answer = answers[upload.status]
        if answer is Answer.ACCEPT:
            return self._show(upload)
        raise not_pending(upload.id, upload.status, int(answer))

    async def _join(self, upload: Upload, chosen: tuple[Part, ...]) -> Assembled:
        self._joining.add(upload.id)
        try:
            return await asyncio.to_thread(self.store.assemble, chosen)
        except FileNotFoundError:
            # A foreign part, of an upload that is over: its bytes are gone.
            raise Refusal("A listed part is gone.", param="part_ids") from None
        finally:
            self._joining.discard(upload.id)

    def _part_ids(self, ids: tuple[str, ...], own: list[Part]) -> list[str]:
        # Some of Azure's examples list block ids in place of part ids.
        by_block = {part.block_id: part.id for part in own if part.block_id}
        return [by_block.get(one, one) for one in ids]

    def _mismatch(self, upload: Upload, refusal: Refusal | None, answer: Mismatch) -> bool:
        if refusal is None:
            return False
        if answer is Mismatch.REFUSE_AND_CANCEL:
            self.store.put_upload(replace(upload, status=UploadStatus.CANCELLED))
        if answer in {Mismatch.REFUSE, Mismatch.REFUSE_AND_CANCEL}:
            raise refusal
        return answer is Mismatch.ERROR_LATER

    def _file_of(self, upload: Upload, whole: Assembled, *, faulty: bool) -> File:
        return replace(
            self._new_file(
                size=whole.bytes,
                md5=whole.md5,
                filename=upload.filename,
                purpose=upload.purpose,
                life_s=upload.file_life_s,
            ),
            upload_id=upload.id,
            faulty=faulty,
        )

    def _new_file(
        self, *, size: int, md5: str, filename: str, purpose: str, life_s: int | None
    ) -> File:
        now_s = self.clock.now()
        life: float | None = life_s
        if life is None and purpose == "batch" and self.rules.batch_life_s:
            life = self.rules.batch_life_s
        return File(
            id=objects.file_id(self.rules),
            number=self.store.last_number + 1,
            bytes=size,
            md5=md5,
            filename=filename,
            purpose=purpose,
            created_s=now_s,
            expires_s=None if life is None else now_s + life,
            upload_id=None,
        )

    def _file(self, file_id: str) -> File:
        file = self.store.files.get(file_id)
        if file is None or (file.expires_s is not None and self.clock.now() >= file.expires_s):
            raise no_file(file_id)
        return file

    def _position(self, file: File) -> tuple[int, int, str]:
        second = int(file.created_s)
        match self.rules.same_second:
            case SameSecond.CREATED:
                return second, file.number, ""
            case SameSecond.REVERSED:
                return second, -file.number, ""
            case SameSecond.SHUFFLED:
                return second, 0, hashlib.sha256(file.id.encode()).hexdigest()

    def _show(self, upload: Upload) -> Document:
        file = None if upload.file_id is None else self.store.files.get(upload.file_id)
        return objects.show_upload(upload, self.rules, now_s=self.clock.now(), file=file)

    def _show_file(self, file: File) -> Document:
        return objects.show_file(file, self.rules, now_s=self.clock.now())


def _block_id(part_id: str) -> str:
    return hashlib.sha256(part_id.encode()).hexdigest()[:24]
