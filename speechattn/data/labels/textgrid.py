"""Praat's TextGrid, in its long and its short text form, as tiers of segments in seconds.

`write_textgrid` writes the long form. One reader serves both forms: as Praat does, it reads the free-standing numbers,
texts in double quotes and flags in their order, and skips everything else (``xmin =``, ``intervals [1]:``, comments
after ``!``). Source:
http://www.fon.hum.uva.nl/praat/manual/TextGrid_file_formats.html. Point tiers are skipped; the binary and the
chronological form are refused with a message that names the remedy.
"""

from __future__ import annotations

import codecs
import itertools
import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from speechattn.data.labels.segments import Segment, sort_segments
from speechattn.data.text_files import check_not_device
from speechattn.errors import DataError
from speechattn.system.atomic_files import write_lines

_TOKEN = re.compile(r'"(?P<text>(?:[^"]|"")*)"(?!\S)|!.*|<(?P<flag>\w+)>|(?P<other>\S+)')
_NUMBER = re.compile(r"[-+]?\d+(\.\d*)?([eE][-+]?\d+)?")
_ENCODINGS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


class Tier(NamedTuple):
    """One interval tier: its segments in order, labels as they are written, and its end in seconds."""

    name: str
    segments: Sequence[Segment]
    stop_s: float


def read_textgrid(path: str | Path) -> list[Tier]:
    """Return the interval tiers of a TextGrid file, in UTF-8, or in UTF-16 with a byte-order mark.

    Raises:
        DataError: the file cannot be read, is not a TextGrid in text form, or ends early; a value is of another kind
            than expected, or intervals overlap. File and line are named.
    """
    values = _Values(_decode(Path(path)), path)
    if values.text("a TextGrid's first text").removesuffix(" short") != "ooTextFile":
        raise values.wrong('expected a TextGrid, which begins with "ooTextFile"; in Praat, save it as a text file.')
    if values.text("the kind of object") != "TextGrid":
        raise values.wrong("expected a TextGrid, this is another of Praat's objects.")
    values.number("the start")
    values.number("the end")
    tiers = []
    if values.flag("the flag <exists>") == "exists":
        for _ in range(values.count("the number of tiers")):
            tier = _read_tier(values, path)
            if tier is not None:
                tiers.append(tier)
    if values.advance() is not None:
        raise values.wrong("more follows than the file announces: a number of tiers or intervals is wrong.")
    return tiers


def write_textgrid(path: str | Path, tiers: Sequence[Tier]) -> None:
    """Write interval tiers that begin at 0 s as a TextGrid in long form, in UTF-8, atomically.

    Praat needs intervals without a gap: gaps, and the rest up to the end of the longest tier, get an interval with an
    empty text. `read_textgrid` returns the same times, bit for bit. One line at a time is in memory.

    Raises:
        ValueError: two segments of a tier overlap, or there are no tiers.
    """
    if not tiers:
        raise ValueError("a TextGrid needs at least one tier.")
    write_lines(path, _lines(tiers))


def _lines(tiers: Sequence[Tier]) -> Iterator[str]:
    end = max(max(tier.stop_s, *(segment.stop_s for segment in tier.segments[-1:]), 0.0) for tier in tiers)
    yield from ('File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {_number(end)}")
    yield from ("tiers? <exists>", f"size = {len(tiers)}", "item []:")
    for number, tier in enumerate(tiers, start=1):
        size = sum(1 for _ in _without_gaps(tier, end))
        yield from (f"    item [{number}]:", '        class = "IntervalTier"', f"        name = {_quoted(tier.name)}")
        yield from ("        xmin = 0", f"        xmax = {_number(end)}", f"        intervals: size = {size}")
        for index, segment in enumerate(_without_gaps(tier, end), start=1):
            yield from (f"        intervals [{index}]:", f"            xmin = {_number(segment.start_s)}")
            yield from (f"            xmax = {_number(segment.stop_s)}", f"            text = {_quoted(segment.label)}")


def _without_gaps(tier: Tier, end: float) -> Iterator[Segment]:
    """Yield the segments of a tier, and segments without label in the gaps between 0 and `end` seconds."""
    at = 0.0
    for segment in itertools.chain(tier.segments, [Segment(end, end, "")]):
        if segment.start_s < at:
            raise ValueError(f"tier {tier.name!r}: {segment.label!r} begins at {segment.start_s} s, before {at} s.")
        if segment.start_s > at:
            yield Segment(at, segment.start_s, "")
        if segment.stop_s > segment.start_s:
            yield segment
        at = segment.stop_s


def _number(seconds: float) -> str:
    """Return the shortest decimal number that is read as the same float."""
    return repr(float(seconds)) if seconds else "0"


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def find_tier(tiers: Sequence[Tier], kind: str, path: str | Path) -> Tier | None:
    """Return the tier of `kind` ("phones" or "words"), in upper or lower case; None if no tier has this name.

    The Montreal Forced Aligner names it "phones", or "<speaker> - phones"; "phone" is common elsewhere.

    Raises:
        DataError: several tiers have this name.
    """
    name = re.compile(rf"(.* - )?{kind.removesuffix('s')}s?", re.IGNORECASE)
    found = [tier for tier in tiers if name.fullmatch(tier.name.strip())]
    if len(found) > 1:
        names = ", ".join(repr(tier.name) for tier in found)
        raise DataError(f"{path} has {len(found)} tiers of {kind}: {names}. Keep the one of the speaker.")
    return found[0] if found else None


def _read_tier(values: _Values, path: str | Path) -> Tier | None:
    """Return the next tier; None for a tier of points, which is skipped."""
    kind = values.text("the class of a tier")
    if kind not in ("IntervalTier", "TextTier"):
        raise values.wrong(f'expected "IntervalTier" or "TextTier", got "{kind}".')
    name = values.text("the name of a tier")
    values.number(f"the start of tier {name!r}")
    stop = values.number(f"the end of tier {name!r}")
    rows = []
    for index in range(1, values.count(f"the size of tier {name!r}") + 1):
        what = f"{'interval' if kind == 'IntervalTier' else 'point'} {index} of tier {name!r}"
        start = values.number(f"the start of {what}")
        end = values.number(f"the end of {what}") if kind == "IntervalTier" else start
        text = values.text(f"the text of {what}").strip()
        try:
            rows.append((Segment(start, end, text), values.line))
        except ValueError as error:
            raise values.wrong(f"{what}: {error}") from error
    return Tier(name, sort_segments(rows, path), stop) if kind == "IntervalTier" else None


class _Values:
    """The values of a file in order, and the line number of the last one."""

    def __init__(self, content: str, path: str | Path) -> None:
        self._content, self._path = content, path
        self._tokens = _TOKEN.finditer(content)
        self._at = 0
        self.line = 1

    def wrong(self, message: str) -> DataError:
        """Return an error that names the line read last."""
        return DataError(f"{self._path}:{self.line}: {message}")

    def advance(self) -> re.Match[str] | None:
        """Return the next text, number or flag; None at the end."""
        for token in self._tokens:
            other = token["other"]
            if token[0].startswith("!") or (other and not _NUMBER.fullmatch(other) and not other.startswith('"')):
                continue
            self.line += self._content.count("\n", self._at, token.start())
            self._at = token.start()
            if other and other.startswith('"'):
                raise self.wrong("the text that begins here has no closing quote, or no space after it.")
            return token
        return None

    def text(self, what: str) -> str:
        """Return the next value, which must be a text, with doubled quotes made single."""
        return self._next("text", what).replace('""', '"')

    def flag(self, what: str) -> str:
        """Return the next value, which must be a flag, without its brackets."""
        return self._next("flag", what)

    def number(self, what: str) -> float:
        """Return the next value, which must be a finite number."""
        value = float(self._next("other", what))
        if not math.isfinite(value):
            raise self.wrong(f"{what} must be a finite number.")
        return value

    def count(self, what: str) -> int:
        """Return the next value, which must be a whole number from 0."""
        value = self.number(what)
        if value < 0 or value != int(value):
            raise self.wrong(f"{what} must be a whole number, got {value:g}.")
        return int(value)

    def _next(self, group: str, what: str) -> str:
        token = self.advance()
        if token is None:
            raise self.wrong(f"the file ends here; expected {what}.")
        value = token[group]
        if value is None:
            raise self.wrong(f"expected {what}, got {token[0][:40]}.")
        return str(value)


def _decode(path: Path) -> str:
    try:
        check_not_device(path)
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    if content.startswith(b"ooBinaryFile"):
        raise DataError(f"{path} is a binary TextGrid: in Praat, save it as a text file.")
    encoding = next((name for mark, name in _ENCODINGS if content.startswith(mark)), "utf-8")
    try:
        return unicodedata.normalize("NFC", content.decode(encoding).replace("\ufeff", ""))
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not {encoding} text (byte {error.start}): save it as UTF-8.") from error
