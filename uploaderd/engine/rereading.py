"""Reading a file again, where its stamps do not say whether it is still what was sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uploaderd.core.events import Changed, Gone
from uploaderd.core.plan import MIB, Range
from uploaderd.errors import (
    ChangedError,
    GoneError,
    NotRegularError,
    SpoolError,
    UnreadableError,
)
from uploaderd.source import Md5Pass

if TYPE_CHECKING:
    from uploaderd.core.events import Event
    from uploaderd.core.model import File
    from uploaderd.engine.context import Context, Place
    from uploaderd.source import Source

READ_BYTES = 32 * MIB


async def md5_of(ctx: Context, source: Source, size: int) -> str:
    """Read it once.

    Raises:
        SpoolError: it cannot be read to its end.
    """
    whole = Md5Pass(source, [Range(number=1, offset=0, length=size)])
    while not whole.finished:
        await ctx.disk(whole.advance, READ_BYTES, size)
    return whole.hexdigest()


async def superseded(ctx: Context, file: File) -> Event | None:
    """What became of a file whose content may be at the service; None: it stands as it was.

    Its bytes are read only where the ctime alone is another one, since mtime can be put back.
    """
    place = ctx.places[file.watch]
    try:
        identity = await ctx.disk(place.tree.identify, file.path)
        if identity in {file.identity, ctx.proved.get(file.id)}:
            return None
        same = identity.same_bytes(file.identity)
        same = same and await _md5_at(ctx, place, file.path, identity.size) == file.md5
        if same:
            ctx.proved[file.id] = identity
    except GoneError:
        return Gone()
    except (ChangedError, NotRegularError, UnreadableError):
        same = False  # it settles again, and that says what is wrong with it
    except SpoolError:
        return None
    return None if same else Changed(identity=None)


async def _md5_at(ctx: Context, place: Place, path: bytes, size: int) -> str:
    source = await ctx.disk(place.open_source, path)
    try:
        return await md5_of(ctx, source, size)
    finally:
        source.close()
