"""Reading multipart forms in steps: the file's bytes go to disk as they come."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import BodyPartReader, MultipartReader

from uploaderd.emulator.faults import Point
from uploaderd.emulator.refusals import Refusal, missing, unknown
from uploaderd.emulator.rules import RefusalTime
from uploaderd.emulator.store import STEP_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from uploaderd.emulator.exchange import Exchange
    from uploaderd.emulator.store import Draft

VALUE_MAX_BYTES = 64 * 1024


@dataclass(slots=True, kw_only=True)
class Form:
    """What a form held: the file field's own name for the file, and the plain fields."""

    has_file: bool = False
    filename: str | None = None
    refusal: Refusal | None = None
    values: dict[str, str] = field(default_factory=dict)


async def read_form(
    exchange: Exchange,
    draft: Draft,
    *,
    file_field: str,
    plain_fields: frozenset[str] = frozenset(),
    check: Callable[[int], None],
) -> Form:
    """Write the file field's bytes to the draft and return the rest of the form.

    `check` is called with the bytes so far and raises a Refusal once they are too many. The order
    of the fields and of their headers is free, and the file may come without a name.
    """
    content_type = exchange.request.headers.get("Content-Type", "")
    if not content_type.lower().startswith("multipart/form-data"):
        raise Refusal(
            f"Invalid Content-Type header ({content_type}), expected multipart/form-data.",
        )
    form = Form()
    try:
        reader = MultipartReader(exchange.request.headers, exchange.request.content)
        while (one := await reader.next()) is not None:
            if not isinstance(one, BodyPartReader) or one.name is None:
                raise Refusal("A part of the form has no name.")
            if one.name == file_field:
                _check_file_field(one, form, exchange)
                await _to_disk(one, form, exchange, draft, check)
            else:
                await _take_plain(one, one.name, form, exchange, plain_fields)
        # What stands after the closing boundary is nobody's, yet must be read.
        async for _ in exchange.steps():
            pass
    except (ValueError, AssertionError, LookupError, aiohttp.ClientPayloadError):
        # aiohttp's reader says in these ways that a form is cut short or malformed.
        raise Refusal("The multipart form could not be parsed.") from None
    await exchange.reach(Point.AFTER)
    if form.refusal is not None:
        raise form.refusal
    if not form.has_file:
        raise missing(file_field)
    return form


async def _take_plain(
    one: BodyPartReader, name: str, form: Form, exchange: Exchange, known: frozenset[str]
) -> None:
    if name in known:
        form.values[name] = await _value(one)
    elif exchange.rules.unknown_keys_refused:
        raise unknown(name)
    else:
        await one.release()


def _check_file_field(one: BodyPartReader, form: Form, exchange: Exchange) -> None:
    if form.has_file:
        raise Refusal(f"The field '{one.name}' stands twice.", param=one.name)
    if exchange.rules.part_type_required and "Content-Type" not in one.headers:
        raise Refusal("The part has no Content-Type.", param=one.name)
    form.has_file = True
    form.filename = one.filename


async def _to_disk(
    one: BodyPartReader,
    form: Form,
    exchange: Exchange,
    draft: Draft,
    check: Callable[[int], None],
) -> None:
    """Write the field's bytes; where refusals wait for the body's end, only count the rest."""
    early = exchange.rules.part_refusal is RefusalTime.BEFORE_BODY
    step = bytearray()
    total = 0
    async with draft.writer() as write:
        while not one.at_eof():
            chunk = await one.read_chunk(STEP_BYTES)
            total += len(chunk)
            await exchange.received(len(chunk))
            if form.refusal is not None:
                continue
            try:
                check(total)
            except Refusal as refusal:
                if early:
                    raise
                form.refusal = refusal
                continue
            step += chunk
            if len(step) >= STEP_BYTES:
                await write(step)
                step = bytearray()
        await write(step)


async def _value(one: BodyPartReader) -> str:
    value = bytearray()
    while not one.at_eof():
        value += await one.read_chunk(VALUE_MAX_BYTES)
        if len(value) > VALUE_MAX_BYTES:
            raise Refusal(f"The field '{one.name}' is too long.", param=one.name)
    return value.decode()
