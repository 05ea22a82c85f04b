"""What CTC learns of each utterance: its characters, the phones of its alignment, or the pronunciation of its words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from speechattn.alignment.pronunciations import Pronunciations
from speechattn.alignment.transcripts import transcript_words
from speechattn.data.labelled_corpus import LabelledUtterance
from speechattn.data.labels.segments import SILENCE
from speechattn.data.labels.text_targets import CHARACTERS, PHONE_TARGETS, UnknownSigns, spell
from speechattn.errors import UserError

UnknownCharacters = Literal["stop", "drop"]
_SILENT = (SILENCE, "SPN")


class Missing(NamedTuple):
    """Why an utterance has no labels: the reason that it is counted under, and all that is known."""

    reason: str
    found: str = ""


class Targets(Protocol):
    """The labels of utterances."""

    classes: tuple[str, ...]
    """Names of the classes; the first is the blank."""

    def read(self, utterances: Iterable[LabelledUtterance]) -> dict[str, Missing]:
        """Look up what the utterances of a subset need; return why some have no labels, by id."""

    def labels(self, item: LabelledUtterance) -> list[str]:
        """Return the labels of an utterance that was read."""


class Characters:
    """Targets that spell the transcript.

    Args:
        unknown: "stop" refuses transcripts with characters outside the alphabet, "drop" leaves these characters out.
    """

    classes = CHARACTERS

    def __init__(self, unknown: UnknownCharacters = "stop") -> None:
        self.unknown = unknown

    def read(self, utterances: Iterable[LabelledUtterance]) -> dict[str, Missing]:
        """Return the utterances without characters.

        Raises:
            DataError: there are characters outside the alphabet, which are listed, and they are not to be dropped.
        """
        signs = UnknownSigns()
        missing: dict[str, Missing] = {}
        for item in utterances:
            signs.add(item.id, item.utterance.transcript or "")
            if not self.labels(item):
                missing[item.id] = _no_words(item)
        if signs and self.unknown == "stop":
            raise signs.error()
        if signs:
            print(f"characters that are left out: {signs}")
        return missing

    def labels(self, item: LabelledUtterance) -> list[str]:
        """Return the characters of the transcript; a space is `|`."""
        return spell(item.utterance.transcript or "")[0]


class AlignedPhones:
    """Targets that are the phones of an alignment, as they were spoken; silence and noise are left out."""

    classes = PHONE_TARGETS

    def read(self, utterances: Iterable[LabelledUtterance]) -> dict[str, Missing]:
        """Return the utterances whose alignment has no phones."""
        return {item.id: Missing("no phones in the alignment") for item in utterances if not self.labels(item)}

    def labels(self, item: LabelledUtterance) -> list[str]:
        """Return the phones of the segments."""
        return [segment.label for segment in item.segments if segment.label not in _SILENT]


class PronouncedPhones:
    """Targets that are the most usual pronunciation of each word of the transcript.

    Args:
        lexicon: pronunciation dictionary; other words are looked up in espeak-ng.
        cache: folder where the pronunciations of espeak-ng are kept; None is the usual one.

    Raises:
        UserError: there is neither a lexicon nor espeak-ng.
    """

    classes = PHONE_TARGETS

    def __init__(self, lexicon: str | None = None, cache: Path | None = None) -> None:
        self._pronounce = Pronunciations(lexicon, cache)
        self._known: dict[str, tuple[str, ...]] = {}

    def read(self, utterances: Iterable[LabelledUtterance]) -> dict[str, Missing]:
        """Look up all words at once; return the utterances without words, or with a word without pronunciation."""
        split = [(item, transcript_words(item.utterance.transcript or "")) for item in utterances]
        words = sorted({word for _, text in split for word in text} - self._known.keys())
        self._known |= {word: tuple(forms[0]) for word, forms in self._pronounce(words).items()}
        missing: dict[str, Missing] = {}
        for item, text in split:
            unknown = sorted({word for word in text if word not in self._known})
            if not text:
                missing[item.id] = _no_words(item)
            elif unknown:
                missing[item.id] = Missing("no pronunciation", f"no pronunciation of {', '.join(unknown)}")
        return missing

    def labels(self, item: LabelledUtterance) -> list[str]:
        """Return the phones of all words."""
        return [phone for word in transcript_words(item.utterance.transcript or "") for phone in self._known[word]]


def targets_of(
    classes: Sequence[str], alignments: str | None, lexicon: str | None, unknown: UnknownCharacters
) -> Targets:
    """Return the targets that belong to the classes of a model; phones are those of alignments where there are any.

    Raises:
        UserError: the classes are neither phones nor characters, or phones have no source.
    """
    if tuple(classes) == CHARACTERS:
        return Characters(unknown)
    if tuple(classes) == PHONE_TARGETS:
        return AlignedPhones() if alignments is not None else PronouncedPhones(lexicon)
    shown = ", ".join(classes[:5])
    raise UserError(
        f"the model has classes of its own ({len(classes)}: {shown}, ...): transcripts are made to the 40 classes of "
        "phones or the 29 of characters only. Compare its labels with jiwer after sa.CTC.decode."
    )


def _no_words(item: LabelledUtterance) -> Missing:
    return Missing("no words in the transcript" if item.utterance.transcript else "no transcript")
