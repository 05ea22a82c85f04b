"""The archives of LibriSpeech on its server: size, SHA-256 and contents of each subset.

The SHA-256 equal those of torchaudio's datasets, which a test compares. They stand here too, because torchaudio keeps
them in a private table and takes seconds to import. Sizes and counts tell an archive or a folder that is incomplete.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from speechattn.errors import UserError

SERVER = "https://www.openslr.org/resources/12"


@dataclass(frozen=True)
class Archive:
    """One subset as `<subset>.tar.gz`: `size` in bytes, its SHA-256, and the utterances and hours in it."""

    size: int
    sha256: str
    utterances: int
    hours: float


ARCHIVES = {
    "dev-clean": Archive(337_926_286, "76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3", 2703, 5.4),
    "dev-other": Archive(314_305_928, "12661c48e8c3fe1de2c1caa4c3e135193bfb1811584f11f569dd12645aa84365", 2864, 5.3),
    "test-clean": Archive(346_663_984, "39fde525e59672dc6d1551919b1478f724438a95aa55f874b576be21967e6c23", 2620, 5.4),
    "test-other": Archive(328_757_843, "d09c181bba5cf717b3dee7d4d592af11a3ee3a09e08ae025c5506f6ebe961c29", 2939, 5.1),
    "train-clean-100": Archive(
        6_387_309_499, "d4ddd1d5a6ab303066f14971d768ee43278a5f2a0aa43dc716b0e64ecbbbf6e2", 28_539, 100.6
    ),
    "train-clean-360": Archive(
        23_049_477_885, "146a56496217e96c14334a160df97fffedd6e0a04e66b9c5af0d40be3c792ecf", 104_014, 363.6
    ),
    "train-other-500": Archive(
        30_593_501_606, "ddb22f27f96ec163645d53215559df6aa36515f26e01dd70798188350adcb6d2", 148_688, 496.7
    ),
}


def find_archive(subset: str) -> Archive:
    """Return the archive of a subset.

    Raises:
        UserError: LibriSpeech has no such subset; the nearest is named.
    """
    if subset not in ARCHIVES:
        near = difflib.get_close_matches(subset, ARCHIVES, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise UserError(f"LibriSpeech has no subset {subset!r}: one of {', '.join(ARCHIVES)}.{hint}")
    return ARCHIVES[subset]
