"""Whose file it is after a lost reply."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uploaderd.core.reconcile import (
    Absent,
    Candidate,
    Found,
    Judgement,
    Several,
    judge,
    next_look_s,
)


def candidate(
    name: str = "f1",
    *,
    filename: str = "a.txt",
    size: int | None = 5,
    created_at: float | None = 100.0,
    purpose: str = "batch",
) -> Candidate:
    """One that fits, unless told otherwise."""
    return Candidate(id=name, filename=filename, bytes=size, created_at=created_at, purpose=purpose)


def judged(
    *candidates: Candidate, since_s: float | None = 100.0, known: frozenset[str] = frozenset()
) -> Judgement:
    """Look for a.txt, 5 bytes, batch."""
    return judge(
        candidates,
        filename="a.txt",
        size=5,
        purpose="batch",
        created_from_s=since_s,
        known=known,
    )


@pytest.mark.parametrize(
    "one",
    [
        candidate(),
        candidate(size=None),
        candidate(created_at=None),
        candidate(created_at=99.0),
        candidate(created_at=3700.0),
    ],
)
def test_the_only_file_that_fits_is_ours(one: Candidate) -> None:
    """A missing size or stamp excludes nothing, and the stamps may differ by a second."""
    assert judged(one, candidate("other", filename="b.txt")) == Found("f1")


@pytest.mark.parametrize(
    "one",
    [
        candidate(filename="A.txt"),
        candidate(size=6),
        candidate(size=0),
        candidate(created_at=98.9),
        candidate(purpose="evals"),
    ],
)
def test_a_file_that_differs_in_one_thing_is_not_ours(one: Candidate) -> None:
    """Name, size, purpose and time must all agree."""
    assert judged(one) == Absent()


def test_a_file_that_is_known_already_is_not_taken_twice() -> None:
    """The ids of our other files are left out, so the same content twice tells apart."""
    assert judged(candidate("f1"), candidate("f2"), known=frozenset({"f1"})) == Found("f2")


def test_between_several_nothing_is_guessed() -> None:
    """All the ids that fit are named, sorted."""
    assert judged(candidate("f2"), candidate("f1", size=None)) == Several(("f1", "f2"))


def test_the_same_file_on_two_pages_counts_once() -> None:
    """A list that shifts while it is paged repeats files."""
    assert judged(candidate(), candidate()) == Found("f1")


def test_without_a_window_age_does_not_matter() -> None:
    """An upload whose creation the service never stamped is looked for in all files."""
    assert judged(candidate(created_at=1.0), since_s=None) == Found("f1")


def test_looking_grows_slower_and_ends_after_about_a_minute() -> None:
    """The waits never shrink, sum to 60 to 75 seconds, and then end for good."""
    waits = [wait for looks in range(100) if (wait := next_look_s(looks)) is not None]
    assert waits == sorted(waits)
    assert 60 <= sum(waits) <= 75
    assert next_look_s(len(waits)) is None
    assert next_look_s(-1) is None


@given(
    st.lists(
        st.builds(
            Candidate,
            id=st.sampled_from(["f1", "f2", "f3"]),
            filename=st.sampled_from(["a.txt", "b.txt"]),
            bytes=st.sampled_from([None, 5, 6]),
            created_at=st.sampled_from([None, 1.0, 99.0, 200.0]),
            purpose=st.sampled_from(["batch", "evals"]),
        )
    ),
    st.frozensets(st.sampled_from(["f1", "f2", "f3"])),
)
def test_a_verdict_never_names_a_known_file_nor_depends_on_the_order(
    candidates: list[Candidate], known: frozenset[str]
) -> None:
    """Whatever the list holds, the answer is the same backwards and names only strangers."""
    verdict = judged(*candidates, known=known)
    assert verdict == judged(*reversed(candidates), known=known)
    match verdict:
        case Found(name):
            assert name not in known
        case Several(names):
            assert len(names) > 1
            assert known.isdisjoint(names)
        case Absent():
            pass
