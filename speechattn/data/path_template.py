"""Path templates: which parts of the path of a sound file are its class and its speaker, as "{class}/{speaker}/{file}".

A template is the path below the corpus' folder, without suffix. Its fields are {class}, {speaker}, {take} and {file};
everything else is literal. A field lies in one part of the path and does not hold the characters that the literals
beside it begin and end with, so "{class}_{speaker}_{take}" fits names with exactly two underscores; {file} may hold
anything but "/".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from speechattn.errors import DataError

FIELDS = ("class", "speaker", "take", "file")
KNOWN = ("{class}/{speaker}_nohash_{take}", "{class}/{speaker}/{file}", "{class}_{speaker}_{take}", "{class}/{file}")
"""The layouts that are found without being named: Speech Commands, folders of speakers, the Free Spoken Digit Dataset,
and folders of classes without speakers, which is taken where no other fits."""


@dataclass(frozen=True)
class PathTemplate:
    """A compiled template.

    Raises:
        DataError: the template has no {class}, a field twice, a field of another name, or fields without text between.

    Examples:
        >>> template = PathTemplate("{class}_{speaker}_{take}")
        >>> template.match("7_jackson_12"), template.match("7_jackson")
        ({'class': '7', 'speaker': 'jackson', 'take': '12'}, None)
    """

    text: str
    _pattern: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        parts = re.split(r"\{(\w*)\}", self.text)
        names, literals = parts[1::2], parts[::2]
        unknown = [name for name in names if name not in FIELDS]
        if (
            unknown
            or "class" not in names
            or len(set(names)) != len(names)
            or not all(literals[1:-1])
            or "{" in "".join(literals)
        ):
            raise DataError(
                f"layout {self.text!r} must have {{class}} once and may have {{speaker}}, {{take}} and {{file}}, with "
                f"text between them, for example {KNOWN[1]!r} or {KNOWN[2]!r}."
            )
        pattern = re.escape(literals[0])
        for name, before, after in zip(names, literals, literals[1:], strict=False):
            excluded = "/" if name == "file" else "/" + before[-1:] + after[:1]
            pattern += f"(?P<{name}>[^{re.escape(excluded)}]+)" + re.escape(after)
        object.__setattr__(self, "_pattern", re.compile(pattern))

    def match(self, path: str) -> dict[str, str] | None:
        """Return the fields of a path without suffix, None if it does not fit."""
        found = self._pattern.fullmatch(path)
        return None if found is None else found.groupdict()

    @property
    def class_depth(self) -> int | None:
        """Folders above the one that is the class; None if the class is only a part of a name."""
        names = PurePosixPath(self.text).parts
        return names.index("{class}") if "{class}" in names[:-1] else None


def choose_template(paths: Sequence[str]) -> PathTemplate:
    """Return the known template that fits all paths without suffix.

    Raises:
        DataError: none fits, and the first three paths are named; or two fit.

    Examples:
        >>> choose_template(["yes/0a7c2a8d_nohash_0", "no/0a9f9af7_nohash_1"]).text
        '{class}/{speaker}_nohash_{take}'
        >>> choose_template(["dog/1", "cat/1"]).text
        '{class}/{file}'
    """
    named, last = [PathTemplate(text) for text in KNOWN[:-1]], PathTemplate(KNOWN[-1])
    fitting = [template for template in named if all(template.match(path) for path in paths)]
    if not fitting and all(last.match(path) for path in paths):
        return last
    if len(fitting) == 1:
        return fitting[0]
    rule = "Give yours with --layout, for example --layout '{class}/{speaker}_{take}'."
    if fitting:
        raise DataError(f"{paths[0]} fits {' and '.join(template.text for template in fitting)}. {rule}")
    # Of the template that fits most files, the files that do not fit are the ones to look at.
    fits = {text: [path for path in paths if PathTemplate(text).match(path)] for text in KNOWN}
    best = max(KNOWN, key=lambda text: len(fits[text]))
    wrong = [path for path in paths if path not in set(fits[best])]
    beside = f" {best!r} fits the other {len(fits[best])} files." if fits[best] else ""
    raise DataError(
        f"{len(wrong)} of {len(paths)} sound files fit none of the known layouts ({', '.join(KNOWN)}): "
        f"{', '.join(wrong[:3])}{', ...' if len(wrong) > 3 else ''}.{beside} {rule}"
    )
