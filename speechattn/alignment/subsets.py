"""Alignment of subsets of a corpus into a folder of tables: the work of `speechattn align`, and a stage of training.

    align.json    the settings, and what each finished subset was aligned from; see folder.py
    work/         what align_corpus keeps, acoustic models included
    <subset>.*    see results.py

The same call continues what was stopped, and aligns again only the subsets whose recordings, transcripts or lexicon
have changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from speechattn.alignment.folder import AlignmentFolder, find_model
from speechattn.alignment.inputs import Subset, digest_of, open_subset, part_of
from speechattn.alignment.left_out import by_kind, first_of, how_to_add, left_out_by_transcript, missing_words, too_many
from speechattn.alignment.pronunciations import Pronunciations
from speechattn.alignment.results import TABLES, write_missing_words, write_tables, write_textgrids
from speechattn.alignment.rounds import align_corpus
from speechattn.alignment.settings import AlignSettings
from speechattn.alignment.store import writing
from speechattn.alignment.transcripts import transcript_words
from speechattn.errors import DataError
from speechattn.system.atomic_files import remove_leftovers
from speechattn.system.run_lock import RunLock
from speechattn.system.stop_signal import StopSignal


def align_subsets(settings: AlignSettings, stop: StopSignal) -> list[str]:
    """Align the subsets of `settings`, print what was done, and return the names of the subsets.

    Raises:
        UserError: the folder is in use or holds an alignment with other settings, pronunciations cannot be found, or
            too many utterances have no alignment; those that have one are written.
        Interrupted: SIGINT or SIGTERM came; the same call continues.
    """
    out = Path(settings.out)
    first, *further = settings.subset
    subsets = [
        part_of(open_subset(settings.data, first), settings.max_hours, settings.speakers),
        *(open_subset(settings.data, name) for name in further),
    ]
    pronounce = Pronunciations(settings.lexicon)
    model = None if settings.model is None else find_model(settings.model)
    if _all_done(subsets, settings, AlignmentFolder(out, settings), model):  # without the lock: several may read
        return [subset.name for subset in subsets]
    with RunLock(out):
        remove_leftovers(out)
        folder = AlignmentFolder(out, settings)
        complaints = []
        for subset in subsets:
            complaints.append(_align_subset(subset, settings, folder, pronounce, model, stop))
            model = model or folder.model(subset.name)
        if any(complaints):
            raise DataError(" ".join(filter(None, complaints)))
    return [subset.name for subset in subsets]


def _all_done(subsets: Sequence[Subset], settings: AlignSettings, folder: AlignmentFolder, model: Path | None) -> bool:
    """Return whether nothing is left to do, and print where the alignments are."""
    for subset in subsets:
        if not folder.is_done(subset.name, digest_of(subset, settings.lexicon, model)):
            return False
        model = model or folder.model(subset.name)
    for subset in subsets:
        _print_where(folder, subset)
    return True


def _print_where(folder: AlignmentFolder, subset: Subset) -> None:
    print(f"{subset.name}: aligned before, in {folder.path / subset.name}.phones.ctm and .words.ctm")


def _align_subset(
    subset: Subset,
    settings: AlignSettings,
    folder: AlignmentFolder,
    pronounce: Pronunciations,
    model: Path | None,
    stop: StopSignal,
) -> str:
    """Align one subset unless that is done; return what is wrong if too many utterances were left out, else ""."""
    out, inputs = folder.path, digest_of(subset, settings.lexicon, model)
    if folder.is_done(subset.name, inputs):
        _print_where(folder, subset)
        return ""
    missing = missing_words(subset, pronounce)
    stop.poll()
    advice = how_to_add(missing, write_missing_words(out, subset.name, missing))
    if complaint := too_many(subset, left_out_by_transcript(subset, missing), settings.max_bad):
        raise DataError(" ".join(filter(None, [complaint, advice])))
    work, config = out / "work", settings.align_config()
    result = align_corpus(subset.utterances, transcript_words, pronounce, work, config, stop, model)
    excluded = dict(sorted({**result.excluded, **subset.faults}.items()))
    with writing(out):
        seconds = write_tables(out, subset.name, result.aligned, excluded)
        if settings.textgrids:
            write_textgrids(out, subset.name, subset.utterances, result.aligned, stop.poll)
        folder.finish(subset.name, inputs, result.model)
    _print_summary(out, subset.name, len(result.aligned), seconds, excluded, advice)
    return too_many(subset, excluded, settings.max_bad)


def _print_summary(
    out: Path, subset: str, count: int, seconds: float, excluded: Mapping[str, str], advice: str
) -> None:
    print(f"{subset}: {count} utterances aligned, {seconds / 60:.1f} minutes")
    for kind, ids in by_kind(excluded).items():
        print(f"  left out, {kind}: {len(ids)} ({first_of(ids, 3)})")
    if advice:
        print(f"  {advice}")
    print("\n".join(f"  {out / subset}.{table}" for table in TABLES))
