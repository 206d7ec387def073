"""The receipt and the move out of the spool; each step may be done again after a crash.

The order is: success durable, name chosen and journalled, receipt whole, source moved, filed.
The receipt claims the name, so the move never finds it taken by another of our files.
"""

from __future__ import annotations

import errno
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from uploaderd import logs
from uploaderd.core.events import Filed, FilingAs, FilingFailed
from uploaderd.core.lifecycle import why_filed
from uploaderd.core.model import FileState
from uploaderd.core.report import escape_path, receipt_document
from uploaderd.core.values import replace
from uploaderd.engine.calls import sentence
from uploaderd.errors import NameTakenError, SpoolError
from uploaderd.seams import in_turn
from uploaderd.spool.filing import Moved

if TYPE_CHECKING:
    from collections.abc import Sequence

    from uploaderd.core.model import File, Part, Upload
    from uploaderd.engine.context import Context, Place

log = logs.get(__name__)

DONE = b"done"  # what ended well goes below it
AGAIN_S = 5.0
RARELY_S = 300.0
# What every other file would meet too, wherever it lies, and what it would meet in done/.
OF_ALL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE})
DISK = OF_ALL | {errno.EROFS, errno.EIO}


async def file_away(ctx: Context, place: Place, file: File) -> None:
    """Take the after-care of an ended file one step further, or to its end.

    It is noted in ``ctx.passed`` where something may stand at its path that nobody has taken in.
    """
    if file.filed_as is None:
        try:
            await _choose(ctx, place, file)
        except SpoolError as error:
            await _no_receipt(ctx, place, file, error)
        return
    receipt = await receipt_of(ctx, file)
    away = _taking_away(place, file, file.filed_as)
    moves = any(call.func == place.filing.move for call in away)
    write = partial(place.filing.write_receipt, file.filed_as, receipt, owner=file.id, moves=moves)
    written, *rest = await ctx.disk(in_turn, [write, *away])
    if isinstance(written, NameTakenError):
        await _choose(ctx, place, file)
        return
    if isinstance(written, SpoolError):
        await _no_receipt(ctx, place, file, written)
        return
    if isinstance(written, Exception):
        raise written
    ctx.trouble.pop(place.filing_away, None)
    ctx.full.discard(place.name)
    moved = rest[0] if rest else Moved.ALREADY
    if isinstance(moved, NameTakenError):
        await _choose(ctx, place, file)
    elif isinstance(moved, SpoolError):
        # A read-only mount or a bad sector may be its own.
        await _put_off(ctx, place, file, moved, for_all=_is_the_disks(moved, OF_ALL))
    elif isinstance(moved, Exception):
        raise moved
    else:
        if moved is not Moved.MOVED:
            ctx.passed.add(file.id)
        await _taken_away(ctx, place, file, file.filed_as, moved)


async def _no_receipt(ctx: Context, place: Place, file: File, error: SpoolError) -> None:
    if isinstance(error, NameTakenError):
        raise error
    if _is_the_disks(error):
        ctx.full.add(place.name)
    all_meet_it = place.name in ctx.full or await _refuses_all(ctx, place, file)
    await _put_off(ctx, place, file, error, for_all=all_meet_it)


def _is_the_disks(error: SpoolError, among: frozenset[int] = DISK) -> bool:
    return isinstance(error.__cause__, OSError) and error.__cause__.errno in among


async def _refuses_all(ctx: Context, place: Place, file: File) -> bool:
    """Whether the folder that ended files go to can't be used, for whatever file."""
    if file.filed_as is not None and file.filed_as.count(b"/") == 1:
        return True  # it was to lie in that folder itself
    try:
        await ctx.disk(place.filing.choose, _folder_of(file), b"any")
    except SpoolError:
        return True
    return False


def _folder_of(file: File) -> bytes:
    return DONE if file.state is FileState.DONE else b"failed"


async def _put_off(
    ctx: Context, place: Place, file: File, error: SpoolError, *, for_all: bool
) -> None:
    """Try again later; where no other file would fare better, the others rest too.

    What is one file's own trouble is tried less often the longer it lasts.
    """
    age_s = ctx.wall_s - (file.finished_s or ctx.wall_s)
    wait_s = AGAIN_S if for_all else min(max(AGAIN_S, age_s / 4), RARELY_S)
    due_s = ctx.wall_s + wait_s
    if for_all:
        ctx.resting[place.name] = due_s
        trouble = f"files of {place.name} cannot be filed: {sentence(error)}"
        if place.filing_away not in ctx.trouble:
            log.error("filing.trouble", watch=place.name, text=sentence(error))
        ctx.trouble[place.filing_away] = trouble
    elif age_s < 2 * AGAIN_S:
        log.warning("file.not_filed", id=file.id, path=file.path, text=str(error))
    await ctx.apply(file, FilingFailed(detail=sentence(error), due_s=due_s))


async def _choose(ctx: Context, place: Place, file: File) -> None:
    """Journal the name it goes to before anything is made there."""
    if file.filed_as is not None:
        await ctx.disk(place.filing.withdraw_receipt, file.filed_as, owner=file.id)
    name = await ctx.disk(place.filing.choose, _folder_of(file), file.path)
    await ctx.apply(file, FilingAs(filed_as=name))


async def receipt_of(ctx: Context, file: File) -> bytes:
    """The receipt of an ended file that knows where it goes; the same bytes each time."""
    upload: Upload | None = None
    parts: Sequence[Part] = ()
    if file.upload is not None:
        known = ctx.carried.session(file.upload)
        if known is None:
            upload, parts = await ctx.keep(ctx.journal.session, file.upload)
        else:
            upload, parts = known
    final = replace(file, reason=why_filed(file, escape_path(file.filed_as or b"")))
    result = None if file.result is None else msgspec.json.decode(file.result)
    document = receipt_document(final, upload, parts, result)
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def _taking_away(place: Place, file: File, name: bytes) -> list[partial[Moved]]:
    """The call that takes the source out of the spool; none where it is kept there."""
    filing, done = place.filing, file.state is FileState.DONE
    how = place.settings.after_upload if done else "move"
    if how == "move":
        return [partial(filing.move, file.path, name, file.identity, md5=file.md5)]
    if how == "delete":
        return [partial(filing.remove, file.path, file.identity, md5=file.md5)]
    return []


async def _taken_away(ctx: Context, place: Place, file: File, name: bytes, moved: Moved) -> None:
    if file.state is FileState.DONE and place.settings.after_upload == "delete":
        log.debug("file.removed", id=file.id, how=moved.value)
    else:
        log.debug("file.moved", id=file.id, how=moved.value)
    if moved is Moved.SOURCE_GONE and (not _is_known_to_be_gone(ctx, place, file) or place.leaving):
        # By the next scan it is known whether it was removed or has got another name; a watch that
        # leaves has none, so there it waits until the watch is back.
        detail, due_s = "It is not under its name any more.", ctx.wall_s + place.settings.rescan_s
        await ctx.apply(file, FilingFailed(detail=detail, due_s=due_s))
        return
    await ctx.apply(file, Filed(place=escape_path(name)))


def _is_known_to_be_gone(ctx: Context, place: Place, file: File) -> bool:
    """Whether a scan that began after it was missed has found it under no other name.

    The one that is under way may have passed that name already, so it is the next but one's end.
    """
    scans = place.watcher.scans
    missed_at = ctx.missed.setdefault(file.id, scans)
    if scans < missed_at:  # the watch is listened to anew since
        ctx.missed[file.id] = missed_at = scans
    return scans >= missed_at + 2
