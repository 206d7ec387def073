"""A receipt from memory is the receipt that the journal would give."""

from __future__ import annotations

from typing import TYPE_CHECKING, ParamSpec, TypeVar

from tests.engine.kit import Disk
from uploaderd.config import Transfer
from uploaderd.core.model import Filing, Part, Upload, UploadState
from uploaderd.engine.aftercare import receipt_of
from uploaderd.engine.carried import FEW, MOST, Carried

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.engine.kit import Rig

P = ParamSpec("P")
T = TypeVar("T")


class Asked(Disk):
    """An offload that notes what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    async def __call__(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Note it and run it."""
        self.names.append(function.__name__)
        return await super().__call__(function, *args, **kwargs)


def session(key: str, parts: int = 1) -> tuple[Upload, tuple[Part, ...]]:
    """A session that was filled."""
    upload = Upload(
        key=key,
        file="f",
        target="t",
        state=UploadState.OPEN,
        filename="x",
        purpose="p",
        size=parts,
        part_bytes=1,
        created_s=1.0,
        created_boot_s=1.0,
        boot_id="b",
        life_s=60.0,
    )
    return upload, tuple(Part(upload=key, number=n + 1, offset=n, length=1) for n in range(parts))


async def test_a_receipt_from_memory_has_the_same_bytes_as_one_from_the_journal(rig: Rig) -> None:
    """Of one part or of several; it is asked for nothing, and forgotten with the filing."""
    rig.ctx.transfer = Transfer(files_in_flight=2, parts_in_flight=2, part_bytes=1 << 20)
    rig.put("one")
    rig.put("three", content=bytes(range(256)) * (10 << 10))
    async with rig.at_work() as engine:
        await engine._admit()
        await rig.idle()
        for name in ("one", "three"):
            file = rig.at(name)
            assert file.filing is Filing.PENDING
            assert rig.ctx.carried.session(file.upload or "") is not None
            rig.ctx.keep = asked = Asked()
            told = await receipt_of(rig.ctx, file)
            assert asked.names == []
            rig.ctx.carried.drop(file.upload or "")
            assert await receipt_of(rig.ctx, file) == told
            assert asked.names == ["session"]
            assert b'"part_id"' in told


async def test_what_is_filed_is_forgotten(rig: Rig) -> None:
    """The memory holds only what is on its way to done/."""
    rig.put("one")
    async with rig.at_work() as engine:
        await engine._admit()
        await rig.idle()
        key = rig.at("one").upload or ""
        assert rig.ctx.carried.session(key) is not None
        await rig.turn()
    assert rig.at("one").filing is Filing.FILED
    assert rig.ctx.carried.session(key) is None


def test_the_memory_is_bounded() -> None:
    """The oldest go first, and a session of many parts is not remembered at all."""
    carried = Carried()
    for n in range(MOST + 1):
        carried.keep(*session(f"{n}"))
    assert carried.session("0") is None
    assert carried.session("1") is not None
    carried.keep(*session("big", FEW + 1))
    assert carried.session("big") is None
    assert carried.session("1") is not None
