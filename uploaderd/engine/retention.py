"""Forgetting: what ended longer ago than is to be kept leaves the journal, a little at a time.

A file stays known as long as something hangs on knowing it: a content that is kept in its watch
is never sent again, and what the operator cancelled is not taken up again where it still lies.
Receipts, and the files in ``done/`` and ``failed/``, are never touched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uploaderd.core.model import FileState
from uploaderd.errors import GoneError, SpoolError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from uploaderd.core.model import File
    from uploaderd.engine.context import Context, Place
    from uploaderd.spool.tree import Tree

EVERY_S = 3_600.0  # between two rounds, or a quarter of what is kept
LOOK_S = 60.0  # so soon another configuration is noticed
PAUSE_S = 0.05  # between two steps of a round, and
SHARE = 4  # so many times as long as the last one took: the journal is for others most of the time
LONGEST_S = 5.0
FILES = 50  # in one step
ROWS = 250

START = (float("-inf"), "")


class Retention:
    """Goes round through what has ended, from the oldest on."""

    def __init__(self, ctx: Context) -> None:
        self.stopped = False
        self._ctx = ctx
        self._behind = START
        self._next_boot_s = 0.0
        self._kept_s: float | None = None

    async def step(self) -> float:
        """Forget a little; return when to go on."""
        ctx = self._ctx
        keep_s, now = ctx.keep_s, ctx.clock.now()
        if self.stopped or keep_s is None:
            return LOOK_S
        if keep_s == self._kept_s and now.boot_s < self._next_boot_s:
            return min(LOOK_S, self._next_boot_s - now.boot_s)
        before_s = now.wall_s - keep_s
        if await ctx.keep(ctx.journal.trim, before_s, ROWS):
            return self._pause_s(now.boot_s)
        page = await ctx.keep(ctx.journal.ended_before, before_s, self._behind, FILES)
        if not page:
            self._behind, self._kept_s = START, keep_s
            every_s = min(EVERY_S, keep_s / 4)
            self._next_boot_s = now.boot_s + every_s
            return min(LOOK_S, every_s)
        verdicts = await ctx.disk(judge, page, dict(ctx.places))
        hooks = [(hook.on.value, hook.command) for hook in ctx.hooks]
        try:
            whole = await ctx.keep(ctx.journal.forget, verdicts, hooks, ROWS)
        finally:
            for file in page:
                ctx.doubt(file)
        if whole:
            self._behind = (page[-1].updated_s, page[-1].id)
        return self._pause_s(now.boot_s)

    def _pause_s(self, began_s: float) -> float:
        took_s = self._ctx.clock.now().boot_s - began_s
        return min(max(PAUSE_S, SHARE * took_s), LONGEST_S)


def judge(files: Sequence[File], places: Mapping[str, Place]) -> list[tuple[File, bool]]:
    """Say of each file whether it may be forgotten whole; else its details may."""
    return [
        (file, _is_forgettable(file, place))
        for file in files
        if (place := places.get(file.watch)) is not None
    ]


def _is_forgettable(file: File, place: Place) -> bool:
    kept = place.settings.after_upload == "keep"
    match file.state:
        case FileState.DONE if kept and file.reason.code != "done.already_uploaded":
            return False  # that content never goes again, whenever it comes
        case FileState.DONE:  # it may have been left there before that was changed
            return _has_left(place.tree, file, surely=False)
        case FileState.CANCELLED if file.reason.code == "cancelled.operator":
            return _has_left(place.tree, file, surely=True)
        case _:
            return True


def _has_left(tree: Tree, file: File, *, surely: bool) -> bool:
    """Whether this content does not stand at its path any more.

    ``surely``: nor may it come back with a file system that is not mounted now.
    """
    try:
        try:
            there = tree.identify(file.path)
        except GoneError:
            return not surely or tree.device_of(file.path) == file.identity.dev
    except SpoolError:
        return False
    if there.same_bytes(file.identity):
        return False
    return not surely or there.dev == file.identity.dev
