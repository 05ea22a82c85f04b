"""`speechattn download`: subsets of LibriSpeech; also `--download` of `speechattn train`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from speechattn.cli.options import Parser
from speechattn.data.download import MIRROR_VARIABLE, check_space, count_utterances, download, find_subset
from speechattn.data.librispeech_archives import ARCHIVES, SERVER, find_archive
from speechattn.errors import UserError
from speechattn.system.stop_signal import Interrupted
from speechattn.system.units import format_bytes


def main(argv: Sequence[str]) -> int:
    """Download the subsets that the options `argv` name; return the exit status, 130 or 143 after a signal."""
    options = _parser().parse_args(argv)
    subsets = list(dict.fromkeys(name.rstrip("/") for name in options.subsets))
    return _download(Path(options.to), subsets, options.mirror, options.keep_archives)


def download_missing(data: str, subsets: Sequence[str]) -> int:
    """Download the subsets that have no folder below `data`; return an exit status, 0 if all are there.

    A folder that holds a part of a subset is used as it is, and named.

    Raises:
        UserError: as `download`, or `data` is no folder for LibriSpeech.
    """
    if data == "synthetic":
        raise UserError(
            "--download fetches LibriSpeech: give --data DIR, where to put it, and --subset train-clean-100."
        )
    missing = []
    for subset in dict.fromkeys(subsets):
        expected = find_archive(subset).utterances
        folder = find_subset(data, subset)
        if folder is None:
            missing.append(subset)
        elif (found := count_utterances(folder)) != expected:
            print(f"{folder} is used as it is: it holds {found} complete utterances of {expected}.", file=sys.stderr)
    if missing and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError(
            "--download needs one process: run it without torchrun first, as speechattn download "
            f"{' '.join(missing)} --to {data}"
        )
    return _download(Path(data), missing, None, False)


def _download(root: Path, subsets: Sequence[str], mirror: str | None, keep_archives: bool) -> int:
    for subset in subsets:
        find_archive(subset)  # a wrong name is reported before hours of work, and so is a disk that is too small
    absent = [subset for subset in subsets if find_subset(root, subset) is None]
    check_space(root, absent, keep_archives)
    try:
        with _raising_on_sigterm():
            for subset in subsets:
                folder = download(root, subset, mirror=mirror, keep_archive=keep_archives)
                there = "" if subset in absent else ", already there"
                print(f"{subset}: {ARCHIVES[subset].utterances} utterances in {folder}{there}")
    except (KeyboardInterrupt, Interrupted) as interruption:
        print(f"\ninterrupted; what has arrived is kept in {root}. The same command continues.", file=sys.stderr)
        return interruption.exit_code if isinstance(interruption, Interrupted) else 130
    return 0


@contextmanager
def _raising_on_sigterm() -> Iterator[None]:
    """Raise Interrupted at SIGTERM, at once as KeyboardInterrupt is: a server may be silent for half a minute."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Interrupted(number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _parser() -> Parser:
    rows = [
        f"  {name:16} {archive.hours:5.1f} h  {archive.utterances:6} utterances  {format_bytes(archive.size):>7}"
        for name, archive in ARCHIVES.items()
    ]
    parser = Parser(
        "speechattn download",
        description="Download subsets of LibriSpeech into DIR/LibriSpeech. The same command continues after an "
        "interruption; each archive is verified by its SHA-256.",
        epilog="\n".join(["subsets:", *rows]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("subsets", nargs="+", metavar="SUBSET", help="for example train-clean-100 test-other")
    add("--to", required=True, metavar="DIR", help="the folder that holds, or will hold, LibriSpeech/")
    add("--mirror", metavar="URL", help=f"folder with the archives (default ${MIRROR_VARIABLE}, else {SERVER})")
    add("--keep-archives", action="store_true", help="keep DIR/<subset>.tar.gz after it has been extracted")
    return parser
