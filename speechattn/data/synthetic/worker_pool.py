"""The worker processes that synthesize a corpus: started, counted, and ended with their call.

The state of the engine makes each utterance depend on those before it, so the work is divided in the same way on every
machine: two processes (worker.py), each with a new engine and every second speaker.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING

from speechattn.data.synthetic.config import SyntheticConfig
from speechattn.errors import UserError
from speechattn.system.progress import progress_bar

if TYPE_CHECKING:
    _Process = subprocess.Popen[bytes]

NUM_WORKERS = 2
CANNOT_WRITE, CANNOT_SPEAK = 3, 4
"""Exit statuses of a worker that raised an OSError or a UserError."""


def run_workers(folder: Path, config: SyntheticConfig, progress: bool) -> dict[str, float]:
    """Run the workers to their end and return the seconds of every utterance. None of them outlives this call.

    Raises:
        OSError: a worker could not write.
        UserError: a worker could not start the engine.
        RuntimeError: a worker failed otherwise.
    """
    seconds: dict[str, float] = {}
    total = config.train_utterances + config.test_utterances
    read_end, write_end = os.pipe()  # one for all workers: writes of lines this short are atomic
    with open(read_end, encoding="ascii") as lines, tempfile.TemporaryFile() as errors:
        with open(write_end, "wb") as output:
            workers = [_start(folder, config, index, output, errors) for index in range(NUM_WORKERS)]
        try:
            with progress_bar(total=total, desc="synthetic speech", unit="utt", disable=not progress) as bar:
                for line in lines:
                    utterance, length = line.split()
                    seconds[utterance] = float(length)
                    bar.update()
            statuses = [worker.wait() for worker in workers]
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
        if any(statuses):
            errors.seek(0)
            messages = errors.read().decode(errors="replace").strip()
            if CANNOT_WRITE in statuses:
                raise OSError(messages.splitlines()[-1])
            if CANNOT_SPEAK in statuses:
                raise UserError(messages.splitlines()[-1])
            raise RuntimeError(f"Workers of the synthetic corpus ended with status {statuses}:\n{messages}")
    return seconds


def _start(folder: Path, config: SyntheticConfig, index: int, output: IO[bytes], errors: IO[bytes]) -> _Process:
    """Start one worker in a new interpreter: a fork next to torch's threads could hang.

    A session of its own keeps Ctrl-C from it: an interrupt inside the engine's callback would lose audio without an
    error. `run_workers` ends it.
    """
    package = str(Path(__file__).parents[3])
    path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    share = [str(folder.resolve()), str(index), str(NUM_WORKERS), json.dumps(asdict(config))]
    command = [sys.executable, "-P", "-m", "speechattn.data.synthetic.worker", *share]
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=errors,
        env=environment,
        start_new_session=True,
    )
