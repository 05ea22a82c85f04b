"""A phone-labelled speech corpus out of thin air: espeak-ng reads, and every phone's time is known.

It is written once into a cache, in LibriSpeech layout, and read back by the same loader as real speech::

    <root>/synthetic-<key>/LibriSpeech/SPEAKERS.TXT
    <root>/synthetic-<key>/LibriSpeech/<train|test>/<speaker>/1/<speaker>-1-<nnnn>.flac and <speaker>-1.trans.txt
    <root>/synthetic-<key>/alignments/<train|test>.phones.ctm, .words.ctm (times in whole ms) and classes.txt
    <root>/synthetic-<key>/manifest.json

train and test share no voice and no sentence. The key is made of the engine's version, the config and the code that
speaks. What the engine says depends on all it said before, so the work is cut in the same way everywhere: two
processes (`narrator`), each with a fresh engine and every second speaker. Nothing here imports torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from tqdm import tqdm

from speechattn.data.synthetic.arpabet import CLASSES
from speechattn.data.synthetic.espeak import engine_version
from speechattn.data.synthetic.voices import voices
from speechattn.errors import UserError
from speechattn.system.serialization import take_numbers, whole

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    _Process = subprocess.Popen[bytes]

SUBSETS = ("train", "test")
CANNOT_WRITE, CANNOT_SPEAK = 3, 4
"""Exit statuses of a narrator that met an OSError or a UserError."""

_NARRATORS = 2
_BYTES_PER_UTTERANCE = 120_000  # 3.9 s at 16 bits, before FLAC
_CODE = ("arpabet.py", "espeak.py", "worker.py", "sentences.py", "corpus.py", "voices.py")


@dataclass(frozen=True)
class SyntheticConfig:
    """How much is said, and by how many. Equal configs give equal corpora, with one version of the engine.

    Raises:
        ValueError: a field is not a whole number, or not positive (a seed may be 0).
    """

    train_utterances: int = 440
    test_utterances: int = 52
    train_speakers: int = 40
    test_speakers: int = 26
    seed: int = 0

    def __post_init__(self) -> None:
        take_numbers(self)
        for field in fields(self):
            whole(f"SyntheticConfig.{field.name}", getattr(self, field.name), 0 if field.name == "seed" else 1)


_DEFAULT = SyntheticConfig()


def default_cache() -> Path:
    """Where corpora are kept: $SPEECHATTN_CACHE, else ~/.cache/speechattn, else a temporary folder."""
    if chosen := os.environ.get("SPEECHATTN_CACHE"):
        return Path(chosen).expanduser()
    with contextlib.suppress(OSError, RuntimeError):  # a home that is read-only, or none at all
        folder = Path.home() / ".cache" / "speechattn"
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    return Path(tempfile.gettempdir()) / f"speechattn-{getattr(os, 'getuid', int)()}"


def synthesize_corpus(root: Path, config: SyntheticConfig = _DEFAULT, progress: bool = True) -> Path:
    """The folder under `root` that holds LibriSpeech/ and alignments/, made first when it is not there yet.

    It is written aside and renamed when complete, so half a corpus is never taken for a whole one, and what an
    interrupted run left behind is removed. A second process that wants the same corpus waits for the first.

    Raises:
        UserError: espeak-ng is not installed (pip install espeakng-loader), or `root` cannot be written.
    """
    recipe = {"engine": f"espeak-ng {engine_version()}", "config": asdict(config), "code": _fingerprint()}
    key = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:12]
    folder = Path(root) / f"synthetic-{key}"
    if _is_complete(folder):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _one_at_a_time(folder.with_suffix(".lock")):
            if not _is_complete(folder):
                _make(folder, config, recipe, progress)
    except OSError as error:
        raise UserError(
            f"Cannot write the synthetic corpus to {folder}: {error}. Free some space or choose another place, "
            "for instance with SPEECHATTN_CACHE=/folder/with/space."
        ) from error
    return folder


def _fingerprint() -> str:
    """A digest of the code that decides what is said and how it sounds: an old cache does not outlive a change."""
    code = hashlib.sha256()
    for name in _CODE:
        code.update(Path(__file__).with_name(name).read_bytes())
    return code.hexdigest()[:12]


def _is_complete(folder: Path) -> bool:
    """Whether the manifest is there, and everything that it counted."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and manifest.get("contents") == _contents(folder)


def _contents(folder: Path) -> dict[str, int]:
    sizes = [path.stat().st_size for path in folder.glob("*/**/*.*")]
    return {"files": len(sizes), "bytes": sum(sizes)}


@contextlib.contextmanager
def _one_at_a_time(lock: Path) -> Iterator[None]:
    """Wait until no other process is in here. The system opens the lock when its holder ends, however it ends."""
    with lock.open("w") as file:
        if sys.platform != "win32":
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make(folder: Path, config: SyntheticConfig, recipe: dict[str, Any], progress: bool) -> None:
    """Write the corpus beside `folder`, then rename it. The caller holds the lock: leftovers have no owner."""
    _sweep(folder)
    needed = _BYTES_PER_UTTERANCE * (config.train_utterances + config.test_utterances)
    if (free := shutil.disk_usage(folder.parent).free) < needed:
        raise OSError(f"about {needed / 1e6:.0f} MB are needed, {free / 1e6:.0f} MB are free")
    partial = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
    try:
        (partial / "alignments").mkdir(parents=True)
        seconds = _narrate(partial, config, progress)
        minutes = _write_tables(partial, config, seconds)
        manifest = {**recipe, "minutes": minutes, "contents": _contents(partial)}
        (partial / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        if folder.exists():  # damaged, or it would have been taken
            shutil.rmtree(folder)
        partial.rename(folder)
    finally:
        _sweep(folder)  # again: a narrator that outlived its killed parent may have written one more file at first


def _sweep(folder: Path) -> None:
    """Remove what was begun beside `folder` and not finished."""
    for leftover in folder.parent.glob(f"{folder.name}.partial-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _narrate(partial: Path, config: SyntheticConfig, progress: bool) -> dict[str, float]:
    """Run the narrators to their end; returns the seconds of every utterance. None of them outlives this call."""
    seconds: dict[str, float] = {}
    total = config.train_utterances + config.test_utterances
    read_end, write_end = os.pipe()  # one for all: lines this short arrive whole
    with open(read_end, encoding="ascii") as lines, tempfile.TemporaryFile() as complaints:
        with open(write_end, "wb") as output:
            narrators = [_start(partial, config, index, output, complaints) for index in range(_NARRATORS)]
        try:
            with tqdm(total=total, desc="synthetic speech", unit="utt", disable=not progress) as bar:
                for line in lines:
                    utterance, length = line.split()
                    seconds[utterance] = float(length)
                    bar.update()
            statuses = [narrator.wait() for narrator in narrators]
        finally:
            for narrator in narrators:
                narrator.kill()
                narrator.wait()
        if any(statuses):
            complaints.seek(0)
            said = complaints.read().decode(errors="replace").strip()
            if CANNOT_WRITE in statuses:
                raise OSError(said.splitlines()[-1])
            if CANNOT_SPEAK in statuses:
                raise UserError(said.splitlines()[-1])
            raise RuntimeError(f"Narrators of the synthetic corpus ended with status {statuses}:\n{said}")
    return seconds


def _start(partial: Path, config: SyntheticConfig, index: int, output: IO[bytes], complaints: IO[bytes]) -> _Process:
    """One narrator in a fresh interpreter: no fork, which would hang beside torch's threads.

    Its own session keeps Ctrl-C from it: an interrupt inside the engine's callback would lose a piece of sound
    without a word. `_narrate` ends it.
    """
    package = str(Path(__file__).parents[3])
    path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    share = [str(partial.resolve()), str(index), str(_NARRATORS), json.dumps(asdict(config))]
    command = [sys.executable, "-P", "-m", "speechattn.data.synthetic.worker", *share]
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=complaints,
        env=environment,
        start_new_session=True,
    )


def _write_tables(partial: Path, config: SyntheticConfig, seconds: dict[str, float]) -> dict[str, float]:
    """SPEAKERS.TXT, classes.txt, and the narrators' parts of the alignments as one; returns minutes by subset."""
    minutes = dict.fromkeys(SUBSETS, 0.0)
    rows = ["; Voices of espeak-ng, not of people.", ";ID   |SEX| SUBSET           |MINUTES| NAME"]
    spoken: dict[str, float] = {}
    for utterance, length in seconds.items():
        speaker = utterance.partition("-")[0]
        spoken[speaker] = spoken.get(speaker, 0.0) + length / 60
    for subset, count in (("train", config.train_speakers), ("test", config.test_speakers)):
        for voice in voices(subset, count, config.seed):
            length = spoken.get(str(voice.id), 0.0)
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
