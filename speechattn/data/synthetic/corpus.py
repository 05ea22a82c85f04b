"""A phone-labelled corpus of synthetic speech: espeak-ng reads sentences and reports the time of every phone.

It is written once into a cache, in LibriSpeech layout, and read by the same loader as real speech::

    <root>/synthetic-<key>/LibriSpeech/SPEAKERS.TXT
    <root>/synthetic-<key>/LibriSpeech/<train|test>/<speaker>/1/<speaker>-1-<nnnn>.flac and <speaker>-1.trans.txt
    <root>/synthetic-<key>/alignments/<train|test>.phones.ctm, .words.ctm (times in whole ms) and classes.txt
    <root>/synthetic-<key>/manifest.json

train and test share no voice and no sentence. The key is a hash of the engine's version, the config and the code that
makes the audio. Nothing here imports torch.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from speechattn.data.synthetic.arpabet import CLASSES
from speechattn.data.synthetic.config import SUBSETS, SyntheticConfig
from speechattn.data.synthetic.espeak import engine_version
from speechattn.data.synthetic.finished_folder import (
    finish,
    folder_contents,
    is_complete,
    locked,
    partial_folder,
    remove_partial,
)
from speechattn.data.synthetic.voices import voices
from speechattn.data.synthetic.worker_pool import run_workers
from speechattn.errors import UserError

_BYTES_PER_UTTERANCE = 120_000  # 3.9 s at 16 bits, before FLAC
_CODE = (
    "arpabet.py",
    "config.py",
    "corpus.py",
    "espeak.py",
    "sentences.py",
    "voices.py",
    "worker.py",
    "worker_pool.py",
)


_DEFAULT = SyntheticConfig()


def synthesize_corpus(root: Path, config: SyntheticConfig = _DEFAULT, progress: bool = True) -> Path:
    """Return the folder under `root` that holds LibriSpeech/ and alignments/; make it if it does not exist.

    It is written under another name and renamed when complete, so that an incomplete corpus is never used, and what an
    interrupted run left is removed. A second process that needs the same corpus waits for the first.

    Raises:
        UserError: espeak-ng is not installed (pip install espeakng-loader), or `root` cannot be written.
    """
    recipe = {"engine": f"espeak-ng {engine_version()}", "config": asdict(config), "code": _fingerprint()}
    key = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:12]
    folder = Path(root) / f"synthetic-{key}"
    if is_complete(folder):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locked(folder.with_suffix(".lock")):
            if not is_complete(folder):
                _make(folder, config, recipe, progress)
    except OSError as error:
        raise UserError(
            f"Cannot write the synthetic corpus to {folder}: {error}. Free some space or choose another place, "
            "for instance with SPEECHATTN_CACHE=/folder/with/space."
        ) from error
    return folder


def _fingerprint() -> str:
    """Return a digest of the code that makes the corpus, so that a change of the code makes a new one."""
    code = hashlib.sha256()
    for name in _CODE:
        code.update(Path(__file__).with_name(name).read_bytes())
    return code.hexdigest()[:12]


def _make(folder: Path, config: SyntheticConfig, recipe: dict[str, Any], progress: bool) -> None:
    """Write the corpus next to `folder`, then rename it. The caller holds the lock: partial folders have no owner."""
    remove_partial(folder)
    needed = _BYTES_PER_UTTERANCE * (config.train_utterances + config.test_utterances)
    if (free := shutil.disk_usage(folder.parent).free) < needed:
        raise OSError(f"about {needed / 1e6:.0f} MB are needed, {free / 1e6:.0f} MB are free")
    partial = partial_folder(folder)
    try:
        (partial / "alignments").mkdir(parents=True)
        seconds = run_workers(partial, config, progress)
        minutes = _write_tables(partial, config, seconds)
        manifest = {**recipe, "minutes": minutes, "contents": folder_contents(partial)}
        (partial / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        finish(partial, folder)
    finally:
        remove_partial(folder)  # again: a worker whose parent was killed may have written one more file


def _write_tables(partial: Path, config: SyntheticConfig, seconds: dict[str, float]) -> dict[str, float]:
    """Write SPEAKERS.TXT and classes.txt, join the workers' parts of the alignments; return minutes by subset."""
    minutes = dict.fromkeys(SUBSETS, 0.0)
    rows = ["; Voices of espeak-ng, not of people.", ";ID   |SEX| SUBSET           |MINUTES| NAME"]
    speaker_minutes: dict[str, float] = {}
    for utterance, length in seconds.items():
        speaker = utterance.partition("-")[0]
        speaker_minutes[speaker] = speaker_minutes.get(speaker, 0.0) + length / 60
    for subset, count in (("train", config.train_speakers), ("test", config.test_speakers)):
        for voice in voices(subset, count, config.seed):
            length = speaker_minutes.get(str(voice.id), 0.0)
            if length:
                rows.append(f"{voice.id} | {voice.sex} | {subset:16} | {length:5.2f} | espeak-ng {voice.name}")
                minutes[subset] = round(minutes[subset] + length, 3)
        for kind in ("phones", "words"):
            table = partial / "alignments" / f"{subset}.{kind}.ctm"
            parts = sorted(table.parent.glob(f"{table.name}.*"))
            lines = [line for part in parts for line in part.read_text(encoding="ascii").splitlines()]
            table.write_text("".join(f"{line}\n" for line in sorted(lines, key=_utterance)), encoding="ascii")
            for part in parts:
                part.unlink()
    (partial / "LibriSpeech" / "SPEAKERS.TXT").write_text("\n".join(rows) + "\n", encoding="ascii")
    classes = "".join(f"{index} {name}\n" for index, name in enumerate(CLASSES))
    (partial / "alignments" / "classes.txt").write_text(classes, encoding="ascii")
    return minutes


def _utterance(line: str) -> str:
    return line.partition(" ")[0]
