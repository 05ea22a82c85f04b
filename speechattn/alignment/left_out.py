"""Utterances without alignment: found in the transcripts before the work, counted by reason, and too many of them.

The reasons of the aligner itself (too short, damaged, a low score) come from rounds.py.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from speechattn.alignment.inputs import Subset
from speechattn.alignment.sentences import Pronounce
from speechattn.alignment.transcripts import transcript_words


def missing_words(subset: Subset, pronounce: Pronounce) -> Counter[str]:
    """Return the words of the transcripts that have no pronunciation, and how often they occur."""
    counts = Counter(word for utterance in subset.utterances for word in transcript_words(utterance.transcript or ""))
    known = pronounce(sorted(counts))
    return Counter({word: count for word, count in counts.items() if word not in known})


def left_out_by_transcript(subset: Subset, missing: Mapping[str, int]) -> dict[str, str]:
    """Return the reasons by id of the utterances that files and transcripts alone exclude."""
    excluded = dict(subset.faults)
    for utterance in subset.utterances:
        words = transcript_words(utterance.transcript or "")
        unknown = sorted({word for word in words if word in missing})
        if unknown or not words:
            excluded[utterance.id] = f"no pronunciation of {', '.join(unknown)}" if unknown else "no words"
    return excluded


def too_many(subset: Subset, excluded: Mapping[str, str], max_bad: float) -> str:
    """Return a message if `excluded` are more than the share `max_bad` of a subset, else ""; one is always allowed.

    With `max_bad` 0 none is.
    """
    total = len(subset.utterances) + len(subset.faults)
    allowed = max(math.floor(max_bad * total + 1e-9), 1 if max_bad else 0)
    if len(excluded) <= allowed:
        return ""
    share = len(excluded) / total
    named = first_of([f"{id} ({why})" for id, why in excluded.items()], 5)
    return (
        f"{subset.name}: {len(excluded)} of {total} utterances ({share:.1%}) cannot be aligned: {named}. "
        f"Correct them, or leave them out with --max-bad {math.ceil(1000 * share) / 1000:g}."
    )


def how_to_add(missing: Mapping[str, int], file: Path) -> str:
    """Return one line that says how to add pronunciations of the words in `file`, "" if none is missing."""
    if not missing:
        return ""
    words = first_of(sorted(missing, key=lambda word: (-missing[word], word)), 5)
    count = "1 word has" if len(missing) == 1 else f"{len(missing)} words have"
    return (
        f"{count} no pronunciation ({words}), see {file}: write each with its phones into a file, as "
        "'hello HH AH L OW', and give it with --lexicon FILE."
    )


def by_kind(excluded: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the ids of excluded utterances by the kind of reason, the most frequent kind first.

    Examples:
        >>> by_kind({"a": "no pronunciation of x", "b": "score -4.10 below -3", "c": "no pronunciation of y, z"})
        {'no pronunciation of a word': ['a', 'c'], 'score below -3': ['b']}
    """
    counts = Counter(map(_kind, excluded.values()))
    return {kind: [id for id, why in excluded.items() if _kind(why) == kind] for kind, _ in counts.most_common()}


def _kind(reason: str) -> str:
    kind = re.sub(r"^score \S+ below", "score below", reason.partition(":")[0])
    return "no pronunciation of a word" if kind.startswith("no pronunciation") else kind


def first_of(names: Sequence[str], count: int) -> str:
    """Return the first `count` names as text, and dots if there are more."""
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")
