"""A folder of recordings that each have one class, read from their paths: spoken digits, commands, languages, sounds.

    recordings/0_george_0.wav   yes/0a7c2a8d_nohash_0.wav   dog/anna/1.flac   dog/1.flac

path_template.py has the layouts and finds the one that fits. It lists files and opens only their headers, to count
sample rates. plain_folder.py reads folders whose recordings have transcripts, librispeech.py LibriSpeech.
"""

from __future__ import annotations

import unicodedata
import warnings
from collections import Counter
from functools import cached_property
from pathlib import Path

from speechattn.data.audio.errors import AudioError, AudioWarning
from speechattn.data.audio.sound_file import open_sound_file
from speechattn.data.audio.source import SOUND_SUFFIXES
from speechattn.data.labels.segments import Utterance
from speechattn.data.path_template import PathTemplate, choose_template
from speechattn.data.utterance_list import UtteranceList
from speechattn.errors import DataError
from speechattn.system.folders import files_below
from speechattn.system.progress import progress_bar

AUTO = "auto"
"""The layout that stands for the known one that fits."""


class ClassFolder(UtteranceList):
    """The recordings of a folder, sorted by id; the class of one is its `Utterance.label`.

    An id is the path below the folder without suffix, joined by "-"; spaces become "_". A layout without {speaker}
    gives all recordings the speaker "". Folders that hold everything else are left out of the paths, so that the
    folder above `recordings/` can be given too. Names that begin with "_" or "." are left out, such as Speech
    Commands' `_background_noise_`.

    Args:
        folder: where the recordings are.
        layout: of the paths, such as "{class}/{speaker}/{file}"; "auto" chooses a known one.

    Raises:
        DataError: the folder is missing or has no sound file; a path does not fit the layout, or no layout or two fit;
            there are fewer than two classes, or a class has a folder without sound files; two files have one id.
    """

    def __init__(self, folder: str | Path, layout: str = AUTO) -> None:
        self.folder = Path(folder)
        self.subset = self.folder.resolve().name
        self.faults: dict[str, str] = {}
        paths = self._sound_files()
        parts = {path: path.relative_to(self.folder).with_suffix("").as_posix() for path in paths}
        names = _without_common_folder(list(parts.values()))
        below = dict(zip(paths, names, strict=True))
        self.template = choose_template(names) if layout == AUTO else PathTemplate(layout)
        self._utterances = {}
        wrong = []
        for path, name in below.items():
            # A layout that is given may name the folders that all files have in common.
            fields = self.template.match(name) or self.template.match(parts[path])
            if fields is None:
                wrong.append(name)
                continue
            id = unicodedata.normalize("NFC", "_".join(name.replace("/", "-").split()))
            if id in self._utterances:
                other = self._utterances[id].path.relative_to(self.folder)
                raise DataError(
                    f"{other} and {path.relative_to(self.folder)} have the same id {id}: rename one of them."
                )
            label = unicodedata.normalize("NFC", fields["class"])
            self._utterances[id] = Utterance(id, fields.get("speaker", ""), path, None, self.subset, label=label)
        if wrong:
            raise DataError(
                f"{len(wrong)} of {len(below)} sound files below {folder} do not fit the layout "
                f"{self.template.text!r}: {', '.join(wrong[:3])}{', ...' if len(wrong) > 3 else ''}."
            )
        self._check_classes()

    def _sound_files(self) -> list[Path]:
        """Return the sound files, hidden ones and names that begin with "_" left out."""
        if not self.folder.is_dir():
            raise DataError(f"{self.folder} is not a folder: expected one with sound files, such as {{class}}/1.wav.")
        found = [
            path
            for path in files_below(self.folder)
            if path.suffix.lower() in SOUND_SUFFIXES
            and not any(part.startswith("_") for part in path.relative_to(self.folder).parts)
        ]
        if not found:
            raise DataError(f"{self.folder} holds no sound files: expected some, such as {{class}}/{{speaker}}/1.wav.")
        return found

    def _check_classes(self) -> None:
        depth = self.template.class_depth
        if depth is not None:
            first = self._utterances[self._ids[0]].path
            above = first.parents[len(Path(self.template.text).parts) - 1 - depth]
            used = {path for utterance in self for path in utterance.path.parents}
            empty = sorted(
                path.name
                for path in above.iterdir()
                if path.is_dir() and not path.name.startswith((".", "_")) and path not in used
            )
            if empty:
                raise DataError(
                    f"class {empty[0]} has no examples: {above / empty[0]} holds no sound files. Add some, or remove "
                    "the folder; names that begin with _ are left out."
                )
        if len(self.classes) < 2:
            raise DataError(
                f"{self.folder} has recordings of one class only, {self.classes[0]}, by the layout "
                f"{self.template.text!r}: a classifier needs two or more. Give the folder above, or another --layout."
            )

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The classes, sorted by name."""
        return tuple(sorted({utterance.label for utterance in self._utterances.values()}))

    def warn_of_sample_rates(self) -> None:
        """Warn if the recordings have different sample rates, with the number of each: a model may learn the rate.

        They are resampled to one rate when they are read. Damaged files are not counted here.
        """
        rates: Counter[int] = Counter()
        bar = progress_bar(self, total=len(self), desc=f"sample rates of {self.subset}", unit="file", leave=False)
        for utterance in bar:
            try:
                with open_sound_file(utterance.path) as sound:
                    rates[sound.rate] += 1
            except AudioError:
                continue
        if len(rates) > 1:
            counts = ", ".join(f"{count} of {rate} Hz" for rate, count in sorted(rates.items()))
            warnings.warn(
                f"{self.subset}: recordings have different sample rates: {counts}. All are resampled to one rate; if "
                "classes differ in it, a model can learn the rate instead of the class.",
                AudioWarning,
                stacklevel=2,
            )

    def __repr__(self) -> str:
        return (
            f"ClassFolder({str(self.folder)!r}, {self.template.text!r}): {len(self)} recordings, "
            f"{len(self.classes)} classes, {len(self.speakers)} speakers"
        )


def _without_common_folder(names: list[str]) -> list[str]:
    """Return paths without the folders that all of them begin with.

    Examples:
        >>> _without_common_folder(["recordings/0_a_0", "recordings/1_a_0"]), _without_common_folder(["a/1", "b/1"])
        (['0_a_0', '1_a_0'], ['a/1', 'b/1'])
    """
    folders = [name.split("/")[:-1] for name in names]
    common = 0
    for level in zip(*folders, strict=False):
        if len(set(level)) > 1:
            break
        common += 1
    return ["/".join(name.split("/")[common:]) for name in names]
