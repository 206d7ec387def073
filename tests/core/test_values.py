"""Values: frozen, of one kind or the other, copied with a change by one function."""

from __future__ import annotations

import pytest

from uploaderd.core.events import Admitted, Cancelled, Gone
from uploaderd.core.gate import Gate
from uploaderd.core.model import Identity
from uploaderd.core.values import replace

IDENTITY = Identity(dev=1, inode=2, size=3, mtime_ns=4, ctime_ns=5)


def test_either_kind_is_copied_with_a_change() -> None:
    """A struct and a dataclass come out of it as they went in, but for the change."""
    assert replace(IDENTITY, size=9) == Identity(dev=1, inode=2, size=9, mtime_ns=4, ctime_ns=5)
    assert replace(Gate(), probes=2) == Gate(probes=2)
    assert IDENTITY.size == 3


@pytest.mark.parametrize("value", [IDENTITY, Gate()], ids=lambda value: type(value).__name__)
def test_a_field_that_is_none_is_refused(value: Identity | Gate) -> None:
    """A name with a slip of the pen never passes in silence."""
    with pytest.raises(TypeError):
        replace(value, probse=2)  # type: ignore[call-arg]


@pytest.mark.parametrize(("value", "name"), [(IDENTITY, "size"), (Gate(), "state")], ids=str)
def test_a_value_never_changes(value: Identity | Gate, name: str) -> None:
    """Its fields cannot be set."""
    with pytest.raises(AttributeError):
        setattr(value, name, 1)


def test_values_are_told_apart_by_kind_and_by_content() -> None:
    """Two events without a field are two things; equal contents are one key of a set."""
    assert len({Gone(), Cancelled(), Admitted(), Gone()}) == 3
    assert len({IDENTITY, replace(IDENTITY), replace(IDENTITY, inode=7)}) == 2
