"""The process that looks words up in espeak-ng: ``python -m speechattn.alignment.espeak_words < WORDS > TABLE``.

It is a process of its own because espeak-ng has global state, and because a program that has loaded torch should not
fork. It reads a word from each line, and writes a line `word<TAB>mnemonics` for it. Nothing here imports torch.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from speechattn.data.synthetic.espeak import Engine, require_espeak
from speechattn.errors import UserError

ACCENT = "en-us"
_CANNOT_SPEAK = 4


def look_up(words: Iterable[str]) -> dict[str, list[str]]:
    """Return the mnemonics of each word, from a new process; about 10,000 words a second.

    Raises:
        UserError: espeak-ng does not load.
        RuntimeError: the process failed otherwise.
    """
    package = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    child = subprocess.run(
        [sys.executable, "-P", "-m", "speechattn.alignment.espeak_words"],
        input="".join(f"{word}\n" for word in words).encode(),
        capture_output=True,
        env={**os.environ, "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8"},
        start_new_session=True,  # Ctrl-C reaches the caller alone, which ends this process
    )
    messages = child.stderr.decode(errors="replace").strip()
    if child.returncode == _CANNOT_SPEAK:
        raise UserError(messages.splitlines()[-1])
    if child.returncode:
        raise RuntimeError(f"espeak-ng ended with status {child.returncode}:\n{messages}")
    rows = (line.split("\t") for line in child.stdout.decode().splitlines())
    return {word: mnemonics.split() for word, mnemonics in rows}


def main() -> None:
    """Write a line for each word of the input."""
    try:
        os.chdir(str(require_espeak().__path__[0]))  # next to its data, for the library limits the length of their path
        engine = Engine()
        for line in sys.stdin:
            word = line.rstrip("\n")
            print(word, " ".join(engine.mnemonics(word, ACCENT)), sep="\t")
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(_CANNOT_SPEAK)


if __name__ == "__main__":
    main()
