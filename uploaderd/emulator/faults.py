"""Faults: what goes wrong on purpose, when and how often.

A fault is written `key=value,key=value…`; a comma separates only where a word and `=` follow, so
that a body or a header may hold commas.

    call=part            create, part, complete, cancel, list, retrieve, content, delete,
                         upload_file, any (the default)
    action=refuse        answer with `status` (503), `header=NAME:VALUE` (repeatable) and `body`;
                         without a body, an error document of that status with `code` and `message`
    action=garble        answer `status` (200) with `body`, at first acting as asked
    action=cut           break the connection
    action=lose          act as asked, then break the connection without a reply
    action=stall         wait for `seconds` (a number or forever; forever is the default)
    action=slow          read the body at `rate` bytes a second
    action=expire        let the upload expire; with call=create, as the new one is answered
    at=before            before the body is read (the default of refuse, cut, stall and expire)
    at=65536             when so many bytes of the body have been read, or else at its end
    at=after             after the body, before acting
    at=reply             after acting, before the reply (the default of garble, the place of lose)
    close=true           break the connection after the answer, with the rest of the body unread
    skip=2 times=3       let two matching requests pass, then strike three times (default: always)
    probability=0.15     strike by chance, decided by `seed=7` (default 0)

Sizes take KiB, MiB and GiB. Several faults may strike one request.
"""

from __future__ import annotations

import math
import random  # noqa: TID251 - each fault makes its own, from its own seed
import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from uploaderd.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Call(StrEnum):
    """The calls that a fault or a count can name."""

    CREATE = "create"
    PART = "part"
    COMPLETE = "complete"
    CANCEL = "cancel"
    LIST = "list"
    RETRIEVE = "retrieve"
    CONTENT = "content"
    DELETE = "delete"
    UPLOAD_FILE = "upload_file"
    ANY = "any"


class Action(StrEnum):
    """What a fault does."""

    REFUSE = "refuse"
    GARBLE = "garble"
    CUT = "cut"
    LOSE = "lose"
    STALL = "stall"
    SLOW = "slow"
    EXPIRE = "expire"


class Point(StrEnum):
    """Where in a request a fault strikes."""

    BEFORE = "before"
    BODY = "body"
    AFTER = "after"
    REPLY = "reply"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault; `spec` is how it was written, and None takes the action's default."""

    spec: str = ""
    call: Call = Call.ANY
    action: Action
    at: Point | None = None
    at_bytes: int = 0
    status: int | None = None
    headers: tuple[tuple[str, str], ...] = ()
    body: str | None = None
    code: str | None = None
    message: str | None = None
    seconds: float = math.inf
    rate_bps: float = math.inf
    close: bool = False
    skip: int = 0
    times: int | None = None
    probability: float = 1.0
    seed: int = 0

    @property
    def point(self) -> Point:
        """Where it strikes."""
        if self.action is Action.LOSE:
            return Point.REPLY
        if self.at is not None:
            return self.at
        late = self.action is Action.GARBLE
        late |= self.action is Action.EXPIRE and self.call is Call.CREATE
        return Point.REPLY if late else Point.BEFORE

    @property
    def answer_status(self) -> int:
        """The status with which it answers."""
        if self.status is not None:
            return self.status
        return 200 if self.action is Action.GARBLE else 503


@dataclass(slots=True, kw_only=True)
class Armed:
    """A fault in a plan: how often it was met and how often it has struck."""

    fault: Fault
    matched: int = 0
    fired: int = 0
    _chance: random.Random = field(init=False)

    def __post_init__(self) -> None:
        """Give the fault a chance of its own."""
        self._chance = random.Random(self.fault.seed)  # noqa: S311 - chance, not secrecy

    def strikes(self, call: Call) -> bool:
        """Tell whether the fault strikes this request, and count it."""
        fault = self.fault
        if fault.call not in {Call.ANY, call}:
            return False
        self.matched += 1
        if self.matched <= fault.skip or (fault.times is not None and self.fired >= fault.times):
            return False
        if fault.probability < 1 and self._chance.random() >= fault.probability:
            return False
        self.fired += 1
        return True


class FaultPlan:
    """The faults in force, in the order in which they strike."""

    def __init__(self, faults: Iterable[str | Fault] = ()) -> None:
        self._armed: list[Armed] = []
        self.replace(faults)

    def __iter__(self) -> Iterator[Armed]:
        """Go through the faults in force."""
        return iter(self._armed)

    def add(self, fault: str | Fault) -> Armed:
        """Put one more fault into force; what is returned tells how often it has struck."""
        armed = Armed(fault=parse_fault(fault) if isinstance(fault, str) else fault)
        self._armed.append(armed)
        return armed

    def replace(self, faults: Iterable[str | Fault]) -> None:
        """Put these faults in place of all others; a wrong one leaves the plan as it was."""
        parsed = [parse_fault(one) if isinstance(one, str) else one for one in faults]
        self._armed = [Armed(fault=one) for one in parsed]

    def clear(self) -> None:
        """Let nothing go wrong any more."""
        self._armed = []

    def draw(self, call: Call) -> tuple[Fault, ...]:
        """Return the faults that strike this request."""
        return tuple(one.fault for one in self._armed if one.strikes(call))


_SEPARATOR = re.compile(r",(?=[a-z_]+=)")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)(KiB|MiB|GiB)?")
_UNITS = {None: 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_ANSWERING = (Action.REFUSE, Action.GARBLE)
_PLACED = (Action.REFUSE, Action.GARBLE, Action.CUT, Action.STALL, Action.EXPIRE)
_ONLY_FOR: dict[str, tuple[Action, ...]] = {
    "at": _PLACED,
    "status": _ANSWERING,
    "header": _ANSWERING,
    "body": _ANSWERING,
    "close": _ANSWERING,
    "code": (Action.REFUSE,),
    "message": (Action.REFUSE,),
    "seconds": (Action.STALL,),
    "rate": (Action.SLOW,),
}
_KEYS = ("call", "action", *_ONLY_FOR, "skip", "times", "probability", "seed")


def parse_fault(spec: str) -> Fault:
    """Return the fault that `spec` describes; UsageError names the wrong bit and what may stand."""
    words: dict[str, str] = {}
    headers: list[tuple[str, str]] = []
    for item in _SEPARATOR.split(spec.strip()):
        key, equals, value = item.partition("=")
        if not equals or key not in _KEYS:
            raise _wrong(spec, f"{item!r} is not one of {'=, '.join(_KEYS)}=")
        if key in words and key != "header":
            raise _wrong(spec, f"{key}= stands twice")
        if key == "header":
            headers.append(_header(spec, value))
        words[key] = value
    if "action" not in words:
        raise _wrong(spec, f"action= is missing: one of {', '.join(Action)}")
    action = Action(_choice(spec, "action", words["action"], list(Action)))
    for key in words:
        if key in _ONLY_FOR and action not in _ONLY_FOR[key]:
            allowed = ", ".join(_ONLY_FOR[key])
            raise _wrong(spec, f"{key}= belongs to {allowed}, not to {action}")
    if action is Action.SLOW and "rate" not in words:
        raise _wrong(spec, "rate= is missing: bytes a second, such as 64KiB")
    call = Call(_choice(spec, "call", words.get("call", "any"), list(Call)))
    at, at_bytes = _place(spec, words.get("at"))
    return Fault(
        spec=spec,
        call=call,
        action=action,
        at=at,
        at_bytes=at_bytes,
        status=_status(spec, words.get("status")),
        headers=tuple(headers),
        body=words.get("body"),
        code=words.get("code"),
        message=words.get("message"),
        seconds=_seconds(spec, words.get("seconds", "forever")),
        rate_bps=_size(spec, "rate", words["rate"]) if "rate" in words else math.inf,
        close=_choice(spec, "close", words.get("close", "false"), ["true", "false"]) == "true",
        skip=int(_number(spec, "skip", words.get("skip", "0"))),
        times=int(_number(spec, "times", words["times"], low=1)) if "times" in words else None,
        probability=_number(
            spec, "probability", words.get("probability", "1"), high=1, whole=False
        ),
        seed=int(_number(spec, "seed", words.get("seed", "0"))),
    )


def _wrong(spec: str, why: str) -> UsageError:
    return UsageError(f"the fault {spec!r} is wrong: {why}")


def _choice(spec: str, key: str, value: str, allowed: list[str]) -> str:
    if value not in allowed:
        raise _wrong(spec, f"{key}= is one of {', '.join(allowed)}, not {value!r}")
    return value


def _number(
    spec: str,
    key: str,
    text: str,
    *,
    low: float = 0,
    high: float = math.inf,
    whole: bool = True,
) -> float:
    try:
        number = int(text) if whole else float(text)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and low <= number <= high):
        what = "a whole number" if whole else "a number"
        limits = f"{low:g} or more" if high == math.inf else f"between {low:g} and {high:g}"
        raise _wrong(spec, f"{key}= is {what}, {limits}, not {text!r}")
    return number


def _seconds(spec: str, text: str) -> float:
    return math.inf if text == "forever" else _number(spec, "seconds", text, whole=False)


def _size(spec: str, key: str, text: str) -> float:
    found = _SIZE.fullmatch(text)
    size = float(found[1]) * _UNITS[found[2]] if found else 0
    if size <= 0:
        raise _wrong(spec, f"{key}= is a number of bytes, such as 65536 or 64KiB, not {text!r}")
    return size


def _status(spec: str, text: str | None) -> int | None:
    return None if text is None else int(_number(spec, "status", text, low=200, high=599))


def _place(spec: str, text: str | None) -> tuple[Point | None, int]:
    if text is None:
        return None, 0
    if text in {Point.BEFORE, Point.AFTER, Point.REPLY}:
        return Point(text), 0
    if not _SIZE.fullmatch(text):
        raise _wrong(spec, f"at= is before, after, reply or a number of bytes, not {text!r}")
    return Point.BODY, int(_size(spec, "at", text))


def _header(spec: str, text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not re.fullmatch(r"[!#$%&'*+.^_`|~\w-]+", name, re.ASCII):
        raise _wrong(spec, f"header= is NAME:VALUE, not {text!r}")
    if not value.isprintable():
        raise _wrong(spec, f"header= holds a control character: {text!r}")
    return name, value.strip()
