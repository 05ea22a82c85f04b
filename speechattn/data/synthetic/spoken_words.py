"""Spoken words made by espeak-ng, one a file: a corpus for classifiers of utterances, without a download.

It is written once into a cache, as a class folder::

    <root>/words-<key>/<train|test>/<word>/<speaker>/<take>.flac
    <root>/words-<key>/manifest.json

train and test share no voice. Each take has its own pace, pitch and melody. Recordings are cut 20 to 120 ms before and
after the word, as in collections of short commands. Nothing here imports torch.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from speechattn.data.synthetic.config import SUBSETS
from speechattn.data.synthetic.espeak import engine_version
from speechattn.data.synthetic.finished_folder import code_digest, make_once
from speechattn.data.synthetic.worker_pool import CANNOT_WRITE
from speechattn.errors import UserError
from speechattn.system.progress import progress_bar
from speechattn.system.serialization import take_numbers, whole

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_CODE = ("arpabet.py", "espeak.py", "spoken_words.py", "spoken_words_worker.py", "voices.py")


@dataclass(frozen=True)
class SpokenWordsConfig:
    """The settings of a corpus of spoken words. Equal configs give equal corpora, with one version of the engine.

    Raises:
        ValueError: a number is not whole, or not positive (a seed may be 0); or there are no words, or no names.
    """

    words: tuple[str, ...] = DIGITS
    """What is spoken, in ASCII; also the names of the classes unless `names` has others."""
    names: tuple[str, ...] = tuple("0123456789")
    """Names of the classes, one for each word."""
    takes: int = 4
    """Recordings of each word by each speaker."""
    train_speakers: int = 40
    """Speakers of the training subset."""
    test_speakers: int = 26
    """Speakers of the test subset, none of them in training."""
    sample_rate: int = 8000
    """Sample rate of the files, in Hz; 8000 is that of a telephone, and of the Free Spoken Digit Dataset."""
    seed: int = 0
    """Seed of voices, takes and rooms."""

    def __post_init__(self) -> None:
        take_numbers(self)
        for name in ("takes", "train_speakers", "test_speakers", "sample_rate", "seed"):
            whole(f"SpokenWordsConfig.{name}", getattr(self, name), 0 if name == "seed" else 1)
        if not self.words or len(self.names) != len(self.words) or len(set(self.names)) != len(self.names):
            raise ValueError(
                f"SpokenWordsConfig.names must be different, one for each of the {len(self.words)} words, got "
                f"{list(self.names)}."
            )

    @property
    def num_files(self) -> int:
        """Recordings of both subsets."""
        return len(self.words) * self.takes * (self.train_speakers + self.test_speakers)


_DEFAULT = SpokenWordsConfig()


def synthesize_words(root: Path, config: SpokenWordsConfig = _DEFAULT, progress: bool = True) -> Path:
    """Return the folder under `root` that holds train/ and test/; make it if it does not exist.

    A second process that needs the same corpus waits for the first.

    Raises:
        UserError: espeak-ng is not installed (pip install espeakng-loader), or `root` cannot be written.
    """
    recipe = {"engine": f"espeak-ng {engine_version()}", "config": asdict(config), "code": code_digest(_CODE)}

    def make(folder: Path) -> dict[str, Any]:
        for subset in SUBSETS:
            (folder / subset).mkdir()
        _run_worker(folder, config, progress)
        return {}

    return make_once(root, "words", recipe, make, "the spoken words")


def _run_worker(folder: Path, config: SpokenWordsConfig, progress: bool) -> None:
    """Run the engine in a process of its own, for it has global state; it prints a line for each file.

    Raises:
        OSError: it could not write.
        UserError: the engine does not start.
    """
    package = str(Path(__file__).parents[3])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))}
    environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-P", "-m", "speechattn.data.synthetic.spoken_words_worker", str(folder.resolve())]
    with subprocess.Popen(
        [*command, json.dumps(asdict(config))],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        text=True,
        errors="replace",
        start_new_session=True,  # Ctrl-C inside the engine would lose audio without an error
    ) as worker:
        assert worker.stdout is not None
        said = []
        try:
            with progress_bar(total=config.num_files, desc="spoken words", unit="file", disable=not progress) as bar:
                for line in worker.stdout:
                    if line == "file\n":
                        bar.update()
                    else:
                        said.append(line)
        finally:
            if worker.poll() is None and sys.exc_info()[0] is not None:
                worker.kill()
        status = worker.wait()
    if status:
        message = said[-1].strip() if said else f"the engine ended with status {status}"
        raise OSError(message) if status == CANNOT_WRITE else UserError(message)
