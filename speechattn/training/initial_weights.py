"""Weights of a saved model as the start of a run: normalisation, encoder, and the head where the classes are equal."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import nn

from speechattn.config import CONVOLUTION_BLOCKS
from speechattn.errors import UserError
from speechattn.models.speech_model import SpeechModel, load
from speechattn.system.atomic_files import write_json
from speechattn.training.config import TrainConfig
from speechattn.training.run_folder import read_object

MAY_DIFFER = (
    "classes",
    "head",
    "pooling",
    "pooling_queries",
    "encoder.dropout",
    "encoder.layer_dropout",
    "encoder.gradient_checkpointing",
)
"""Settings of a model that its weights do not depend on, or only those of the head."""


def load_initial(config: TrainConfig) -> SpeechModel | None:
    """Return the model that a run starts from, None without `init`: saved in this folder, or in `model/` of it.

    Raises:
        UserError: there is no model, it is damaged, or its settings are not those of the run's own encoder.
    """
    if config.init is None:
        return None
    path = Path(config.init)
    initial = load(path / "model" if (path / "model" / "config.json").exists() else path)
    found = _flat(initial.config.to_dict())
    wanted = _flat(config.model_config(config.encoder, initial.config.classes, initial.config.head).to_dict())
    unused = {key for key in found if key.startswith("encoder.conv_")}  # unless the blocks have convolutions
    may_differ = {*MAY_DIFFER} if initial.config.encoder.block in CONVOLUTION_BLOCKS else {*MAY_DIFFER} | unused
    differing = [key for key in sorted({*found, *wanted} - may_differ) if found.get(key) != wanted.get(key)]
    if differing:
        changes = ", ".join(f"{key} is {found.get(key)!r} there and {wanted.get(key)!r} here" for key in differing[:5])
        raise UserError(
            f"--init {config.init} is a model of other settings: {changes}. Give this run the same ones (of a run, "
            "--config FOLDER/config.json reads them), or start without --init."
        )
    return initial


def start_from(model: SpeechModel, initial: SpeechModel, keep_normalize: bool = False) -> str:
    """Copy the weights of `initial` into `model`, except those of another head; return a line about it.

    `keep_normalize` keeps the model's own normalisation.
    """
    same_head = _head(initial) == _head(model)
    parts = {"normalize": "normalisation", "encoder": "encoder", "head": "head"}
    if keep_normalize:
        del parts["normalize"]
    if not same_head:
        del parts["head"]
    for part in parts:
        getattr(model, part).load_state_dict(getattr(initial, part).state_dict())
    *others, last = parts.values()
    taken = f"initial weights: {', '.join(others)}{' and ' if others else ''}{last}"
    if same_head:
        return taken
    if (initial.config.head, model.config.head) == ("frames", "ctc") and (count := _copy_phones(model, initial)):
        return f"{taken}; and the head of {count} classes with equal names, the blank of {initial.config.classes[0]}."
    other_classes = initial.config.classes != model.config.classes
    why = f"has {len(initial.config.classes)} other classes" if other_classes else "is of another kind"
    return f"{taken}. The head is new, because that of the saved model ({initial.config.head}) {why}."


def _copy_phones(model: SpeechModel, initial: SpeechModel) -> int:
    """Copy the rows of a head of frames to the classes of a CTC head with equal names; return how many there are.

    Frames of silence need no label: the blank gets the row of the first class. So CTC begins with labels that are right
    in most frames, and has to learn only which of them to leave out.
    """
    here, there = model.head.output, initial.head.output
    if not isinstance(here, nn.Linear) or not isinstance(there, nn.Linear):
        return 0
    pairs = [
        (i, initial.config.classes.index(n)) for i, n in enumerate(model.config.classes) if n in initial.config.classes
    ]
    if not pairs:
        return 0
    rows = dict([(0, 0), *pairs])
    with torch.no_grad():
        for to, source in rows.items():
            here.weight[to], here.bias[to] = there.weight[source], there.bias[source]
    return len(pairs)


def _head(model: SpeechModel) -> tuple[object, ...]:
    """Return what a head's weights depend on, besides the encoder."""
    config = model.config
    return config.head, config.pooling, config.pooling_queries, config.classes


def check_initial(run: Path, initial: SpeechModel, folder: str) -> None:
    """Record in the folder of a run which weights it starts from.

    Raises:
        UserError: it has started from others.
    """
    digest, file = fingerprint_weights(initial), run / "init.json"
    if file.exists() and read_object(file).get("weights") != digest:
        raise UserError(
            f"{run} holds a run that started from other weights than those in --init {folder}. Choose another --out, "
            "or --restart to move it aside."
        )
    write_json(file, {"weights": digest, "folder": folder})


def fingerprint_weights(model: SpeechModel) -> str:
    """Return a hash of all weights of a model: their names, shapes and bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings with dotted names."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
