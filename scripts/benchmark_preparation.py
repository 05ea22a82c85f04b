"""Prepare corpora of LibriSpeech's real size; measure time and memory of a cold and a warm start, and of training.

    python scripts/benchmark_preparation.py --source DIR --work DIR --utterances 6300 28539

--source has LibriSpeech/<subset> and alignments/<subset>.phones.ctm. A tree of hard links (copies on another file
system) with new ids is made in --work for each size; the cache is there, too. Because all links of a recording are one
file, the audio comes from memory, not from the disk. Each start is a process of its own:

    cold    headers, alignments and features of everything, by --workers processes
    warm    the same again: nothing but names and times of files is read
    train   steps of the recipe's encoder on batches from the cache and from memory, interleaved, the least of --rounds;
            size of the process while further batches from all over the corpus are taken

    wall, cpu    seconds until the data are ready for the first batch; cpu of all processes
    sum, largest resident memory: of all processes together, where pages that they share count once (PSS, Linux), and of
                 the largest process (RSS)

The last lines extrapolate to LibriSpeech's 960 h in a straight line through the two sizes: no measurement.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

HOURS_960 = 28_539 + 104_014 + 148_688
"""Utterances of train-clean-100, train-clean-360 and train-other-500."""
PER_CHAPTER = 46
"""Copies of a recording in one chapter: 400 speakers with about 70 utterances each for 28,539."""


def main() -> None:
    """Measure all sizes and print."""
    options = parse()
    if options.phase:
        print(json.dumps(PHASES[options.phase](options)))
        return
    rows = []
    for count in options.utterances:
        tree = options.work / f"tree-{count}"
        make_tree(options.source, options.subset, tree, count)
        cache = options.work / f"cache-{count}"
        if not options.keep:
            shutil.rmtree(cache, ignore_errors=True)
        row = {"utterances": count}
        for phase in ("cold", "warm", "train"):
            found = measured(phase, tree, cache, options)
            row |= {f"{phase} {name}": value for name, value in found.items()}
            print(json.dumps({"utterances": count, "phase": phase, **found}), flush=True)
        rows.append(row)
        if not options.keep:
            shutil.rmtree(cache)
    if len(rows) > 1:
        print(json.dumps({"extrapolated to 960 h": extrapolated(rows[0], rows[-1])}))


def make_tree(source: Path, subset: str, tree: Path, count: int) -> None:
    """Make a corpus of `count` utterances from the recordings of `source`, under new ids."""
    if (tree / "alignments").is_dir():
        return
    phones: dict[str, list[str]] = {}
    for line in (source / "alignments" / f"{subset}.phones.ctm").read_text().splitlines():
        id, _, rest = line.partition(" ")
        phones.setdefault(id, []).append(rest)
    recordings = sorted((source / "LibriSpeech" / subset).rglob("*.flac"))
    words = {
        line.partition(" ")[0]: line.partition(" ")[2]
        for path in (source / "LibriSpeech" / subset).rglob("*.trans.txt")
        for line in path.read_text().splitlines()
    }
    partial = tree.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "alignments").mkdir(parents=True)
    with (partial / "alignments" / f"{subset}.phones.ctm").open("w") as table:
        for number in range(count):
            copy, place = divmod(number, len(recordings))
            path = recordings[place]
            speaker, chapter, _ = path.stem.split("-")
            speaker = f"{1 + copy // PER_CHAPTER}{int(speaker):05}"
            id = f"{speaker}-{chapter}-{copy % PER_CHAPTER:02}{place:03}"
            folder = partial / "LibriSpeech" / subset / speaker / chapter
            folder.mkdir(parents=True, exist_ok=True)
            link(path, folder / f"{id}.flac")
            with (folder / f"{speaker}-{chapter}.trans.txt").open("a") as transcripts:
                transcripts.write(f"{id} {words[path.stem]}\n")
            table.writelines(f"{id} {rest}\n" for rest in phones[path.stem])
    partial.rename(tree)


def link(path: Path, target: Path) -> None:
    """Link `target` to a file, or copy it."""
    try:
        os.link(path, target)
    except OSError:
        shutil.copy2(path, target)


def measured(phase: str, tree: Path, cache: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run a phase in a process of its own; return what it printed, and the memory of it and its children."""
    command = [sys.executable, __file__, "--phase", phase, "--source", str(tree), "--work", str(cache)]
    command += ["--subset", options.subset, "--workers", str(options.workers), "--rounds", str(options.rounds)]
    command += ["--feature-dtype", options.feature_dtype]
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, stdout=output)
        peak: dict[str, float] = {"sum MB": 0.0, "largest MB": 0.0}
        ended = threading.Event()
        watcher = threading.Thread(target=watch, args=(process.pid, peak, ended))
        watcher.start()
        status = process.wait()
        ended.set()
        watcher.join()
        if status:
            raise SystemExit(status)
        output.seek(0)
        return {**json.loads(output.read().splitlines()[-1]), **{name: round(value) for name, value in peak.items()}}


def watch(pid: int, peak: dict[str, float], ended: threading.Event) -> None:
    """Keep the largest memory of a process and its children, looked at twice a second."""
    while not ended.wait(0.5):
        sizes = [size for each in family(pid) if (size := memory(each)) is not None]
        if sizes:
            peak["sum MB"] = max(peak["sum MB"], sum(pss for pss, _ in sizes) / 1e6)
            peak["largest MB"] = max(peak["largest MB"], max(rss for _, rss in sizes) / 1e6)


def family(pid: int) -> Iterator[int]:
    """Yield a process and all below it."""
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except OSError:
            continue
        for child in children:
            yield from family(int(child))


def memory(pid: int) -> tuple[int, int] | None:
    """Return PSS and RSS of a process in bytes."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return None
    found = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.startswith(("Pss:", "Rss:"))}
    return (found["Pss"], found["Rss"]) if len(found) == 2 else None


def config(options: argparse.Namespace) -> Any:
    """Return the settings of the run that is prepared."""
    from speechattn.training.config import TrainConfig

    return TrainConfig(
        data=str(options.source / "LibriSpeech"),
        alignments=str(options.source / "alignments"),
        subset=options.subset,
        cache=str(options.work),
        workers=options.workers,
        feature_dtype=options.feature_dtype,
    )


def prepared(options: argparse.Namespace) -> tuple[Any, dict[str, Any]]:
    """Return the data of the run and the time it took to have them, their fingerprints and normalisation."""
    from speechattn.system.stop_signal import StopSignal
    from speechattn.training.prepare import prepare

    begin = time.perf_counter()
    used = cpu_seconds()
    with StopSignal() as stop:
        data = prepare(config(options), stop)
    data.fingerprints()
    data.normalize()
    hours = sum(example.num_frames for side in (data.train, data.valid) for example in side) / 360_000
    return data, {
        "wall s": round(time.perf_counter() - begin, 1),
        "cpu s": round(cpu_seconds() - used, 1),
        "hours": round(hours, 1),
    }


def prepare_only(options: argparse.Namespace) -> dict[str, Any]:
    """Return what a start costs."""
    _, found = prepared(options)
    files = [path for path in options.work.rglob("*") if path.is_file()]
    return {**found, "cache GB": round(sum(path.stat().st_size for path in files) / 1e9, 2)}


def cpu_seconds() -> float:
    """Return processor seconds of this process and its children that have ended."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def train(options: argparse.Namespace) -> dict[str, Any]:
    """Return milliseconds a step from the cache and from memory, and the size while batches are taken."""
    import torch

    from speechattn.models.speech_model import SpeechModel
    from speechattn.system.process_memory import resident_bytes
    from speechattn.training.dataset import Example, TrainingBatches

    torch.set_num_threads(1)
    data, _ = prepared(options)
    settings = config(options)
    some = data.train.select(torch.arange(len(data.train.utterances)).numpy() % 40 == 0)
    kept = [Example(example.utterance, example.frames, example.labels) for example in some]
    model = SpeechModel(settings.model_config("truncated", data.task.classes))
    model.normalize = data.normalize()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    sources = {"cache": TrainingBatches(some, settings), "memory": TrainingBatches(kept, settings)}
    least = {"step": dict.fromkeys(sources, 1e9), "load": dict.fromkeys(sources, 1e9)}
    for _ in range(options.rounds):
        for name, batches in sources.items():
            begin = time.process_time()
            for batch in batches.epoch(0)[:12]:
                frames, lengths, labels = batches.load(batch)
                loss = data.task.loss(model.classify(frames, lengths)[0], labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            least["step"][name] = min(least["step"][name], (time.process_time() - begin) / 12)
            begin = time.process_time()
            for batch in batches.epoch(0)[:40]:
                batches.load(batch)
            least["load"][name] = min(least["load"][name], (time.process_time() - begin) / 40)
    everything = TrainingBatches(data.train, settings)
    epoch = everything.epoch(0)
    sizes = []
    for k, batch in enumerate(epoch[:2001]):
        everything.load(batch)
        if k in (100, 1000, 2000):
            sizes.append(round(resident_bytes() / 1e6))
    found = {f"{what} ms {name}": round(1000 * s, 2) for what, each in least.items() for name, s in each.items()}
    return {
        **found,
        "cache/memory": round(least["step"]["cache"] / least["step"]["memory"], 3),
        "MB at 100, 1000, 2000": sizes,
    }


def extrapolated(first: dict[str, Any], second: dict[str, Any]) -> dict[str, float]:
    """Return the numbers at 960 h on the line through two sizes."""
    share = (HOURS_960 - first["utterances"]) / (second["utterances"] - first["utterances"])
    names = [name for name, value in second.items() if isinstance(value, (int, float)) and not name.startswith("train")]
    return {name: round(first[name] + share * (second[name] - first[name]), 1) for name in names}


PHASES = {"cold": prepare_only, "warm": prepare_only, "train": train}


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True, help="folder with LibriSpeech/ and alignments/")
    parser.add_argument("--work", type=Path, required=True, help="folder for trees and caches")
    parser.add_argument("--subset", default="train-clean-100")
    parser.add_argument("--utterances", type=int, nargs="+", default=[6300, 28_539])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--feature-dtype", default="float32", dest="feature_dtype")
    parser.add_argument("--keep", action="store_true", help="leave the caches, and use those that are there")
    parser.add_argument("--phase", choices=list(PHASES), help=argparse.SUPPRESS)
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
