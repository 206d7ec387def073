"""Sizes, durations, rates and the bandwidth timetable: text to numbers and back.

Nothing is guessed: a number without its unit is refused wherever a unit could be meant in two
ways. Every ``parse_…`` raises ``ValueError`` with a sentence for a person; ``format_…`` writes
exactly what ``parse_…`` reads; ``human_…`` rounds, for reading only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

_SIZES = {
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB")
_MILLISECONDS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}

_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?)([A-Za-z]+)")
_PIECE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)([a-z]+)")
_TIME_OF_DAY = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")

DAY_S = 86_400
UNLIMITED_TEXT = "unlimited"


def parse_size(text: str) -> int:
    """Bytes from ``"8MiB"``, ``"4MB"``, ``"512KiB"`` or plain digits."""
    if re.fullmatch(r"[0-9]{1,15}", text):
        return int(text)
    match = _SIZE.fullmatch(text)
    if match is None or match[2] not in _SIZES:
        raise ValueError(f"a size is a number and one of {', '.join(_SIZES)}, without a space")
    size = Fraction(match[1]) * _SIZES[match[2]]
    if size.denominator != 1:
        raise ValueError("that is not a whole number of bytes")
    return int(size)


def format_size(size: int) -> str:
    """The shortest exact text in binary units that ``parse_size`` reads as ``size`` bytes."""
    unit = next(u for u in reversed(_BINARY) if u == "B" or (size and size % _SIZES[u] == 0))
    return f"{size // _SIZES[unit]}{unit}"


def parse_duration(text: str) -> float:
    """Seconds from ``"500ms"``, ``"2s"``, ``"15m"``, ``"1h30m"`` or ``"30d"``."""
    pieces = _PIECE.findall(text)
    units = [unit for _, unit in pieces]
    if not pieces or "".join(number + unit for number, unit in pieces) != text:
        raise ValueError("a duration is a number and a unit, or several of them, without a space")
    if units != [unit for unit in _MILLISECONDS if unit in units]:
        raise ValueError("the units are d, h, m, s and ms; each at most once, the largest first")
    ms = sum((Fraction(number) * _MILLISECONDS[unit] for number, unit in pieces), Fraction())
    if ms.denominator != 1:
        raise ValueError("nothing finer than a millisecond is counted")
    return int(ms) / 1000


def format_duration(duration_s: float) -> str:
    """The exact text, to the millisecond, that ``parse_duration`` reads as ``duration_s``."""
    left, pieces = round(duration_s * 1000), ""
    for unit, length in _MILLISECONDS.items():
        count, left = divmod(left, length)
        pieces += f"{count}{unit}" if count else ""
    return pieces or "0s"


def parse_rate(text: str) -> int | None:
    """Bytes a second from ``"10MiB/s"``, or None from ``"unlimited"``."""
    if text == UNLIMITED_TEXT:
        return None
    size, slash, per = text.partition("/")
    if not slash or per != "s" or size.isdigit():
        raise ValueError('a rate is a size a second, such as "10MiB/s", or "unlimited"')
    rate = parse_size(size)
    if rate < 1:
        raise ValueError("at a rate of nothing no file would ever arrive; stop with `pause`")
    return rate


def format_rate(rate_bps: int | None) -> str:
    """The exact text that ``parse_rate`` reads as ``rate_bps``."""
    return UNLIMITED_TEXT if rate_bps is None else f"{format_size(rate_bps)}/s"


@dataclass(frozen=True, slots=True)
class Timetable:
    """Which rate is in force at which local time of day; a pure value without a clock.

    Attributes:
        entries: pairs (second of the day from which it holds, bytes a second or None for
            unlimited), ascending and at least one; before the first of the day, the last holds.
    """

    entries: tuple[tuple[int, int | None], ...] = ((0, None),)

    def rate_at(self, seconds_of_day: float) -> int | None:
        """Bytes a second in force at a local time of day; None is unlimited."""
        begun = [rate for start, rate in self.entries if start <= seconds_of_day]
        return begun[-1] if begun else self.entries[-1][1]

    def change_in_s(self, seconds_of_day: float) -> float | None:
        """Seconds until the next entry begins, or None if the rate never changes."""
        if len(self.entries) == 1:
            return None
        later = [start for start, _ in self.entries if start > seconds_of_day]
        return (later[0] if later else self.entries[0][0] + DAY_S) - seconds_of_day

    def __str__(self) -> str:
        """The text that ``parse_timetable`` reads as this value."""
        if len(self.entries) == 1:
            return format_rate(self.entries[0][1])
        return " ".join(
            f"{start // 3600:02}:{start // 60 % 60:02},{format_rate(rate)}"
            for start, rate in self.entries
        )


UNLIMITED = Timetable()


def parse_timetable(text: str) -> Timetable:
    """From one rate for the whole day, or ``"08:00,2MiB/s 18:00,unlimited"`` in any order."""
    if "," not in text:
        return Timetable(((0, parse_rate(text)),))
    entries: dict[int, int | None] = {}
    for item in text.split():
        start, comma, rate = item.partition(",")
        match = _TIME_OF_DAY.fullmatch(start)
        if not comma or match is None:
            raise ValueError("each entry is HH:MM,RATE, from 00:00 to 23:59, with spaces between")
        begins_s = int(match[1]) * 3600 + int(match[2]) * 60
        if begins_s in entries:
            raise ValueError(f"{start} is there twice")
        entries[begins_s] = parse_rate(rate)
    if len(entries) == 1:
        return Timetable(((0, next(iter(entries.values()))),))
    return Timetable(tuple(sorted(entries.items(), key=lambda entry: entry[0])))


def human_bytes(size: float) -> str:
    """A size for people: ``"512 B"``, ``"1.5 MiB"``."""
    amount, unit = float(size), "B"
    for larger in _BINARY[1:]:
        if round(amount, 1) < 1024:  # noqa: PLR2004 - the step of binary units
            break
        amount, unit = amount / 1024, larger
    return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"


def human_rate(rate_bps: float | None) -> str:
    """A rate for people: ``"10.0 MiB/s"``; None is unlimited."""
    return UNLIMITED_TEXT if rate_bps is None else f"{human_bytes(rate_bps)}/s"


def human_duration(duration_s: float) -> str:
    """A duration for people, its two largest units: ``"1h 30m"``, ``"45s"``, ``"0.2s"``."""
    if duration_s < 9.95:  # noqa: PLR2004 - from here on "10s" says as much as "10.0s"
        return f"{max(duration_s, 0.0):.1f}s".replace(".0s", "s")
    left, pieces = round(duration_s), []
    for unit in ("d", "h", "m", "s"):
        count, left = divmod(left, _MILLISECONDS[unit] // 1000)
        pieces.append(f"{count}{unit}" if count else "")
    first = next(index for index, piece in enumerate(pieces) if piece)
    return " ".join(filter(None, pieces[first : first + 2]))
