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

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from speechattn.data.synthetic.arpabet import CLASSES
from speechattn.data.synthetic.config import SUBSETS, SyntheticConfig
from speechattn.data.synthetic.espeak import engine_version
from speechattn.data.synthetic.finished_folder import code_digest, make_once
from speechattn.data.synthetic.voices import voices
from speechattn.data.synthetic.worker_pool import run_workers

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
    recipe = {"engine": f"espeak-ng {engine_version()}", "config": asdict(config), "code": code_digest(_CODE)}

    def make(folder: Path) -> dict[str, Any]:
        needed = _BYTES_PER_UTTERANCE * (config.train_utterances + config.test_utterances)
        if (free := shutil.disk_usage(folder).free) < needed:
            raise OSError(f"about {needed / 1e6:.0f} MB are needed, {free / 1e6:.0f} MB are free")
        (folder / "alignments").mkdir()
        seconds = run_workers(folder, config, progress)
        return {"minutes": _write_tables(folder, config, seconds)}

    return make_once(root, "synthetic", recipe, make, "the synthetic corpus")


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
