"""SpeechModel: waveform -> frames -> hidden -> logits, and the directory it is saved in.

A saved model is `config.json` and `model.safetensors`, with a format version; loading it never runs code.
"""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from speechattn import context as law
from speechattn.baselines import build_encoder
from speechattn.config import ModelConfig
from speechattn.errors import UserError
from speechattn.files import write_bytes, write_json
from speechattn.frontend.mfcc import build_frontend
from speechattn.frontend.normalize import Normalize
from speechattn.heads import FrameClassifier

FORMAT_VERSION = 1


class SpeechModel(nn.Module):
    """Frontend, normalisation, encoder and frame classifier.

    Example:
        >>> import torch
        >>> from speechattn import EncoderConfig
        >>> config = ModelConfig(("SIL", "AA"), EncoderConfig(input_dim=40, d_model=16, num_layers=1), num_mels=40)
        >>> logits, lengths = SpeechModel(config)(torch.zeros(1, 16_000))
        >>> logits.shape, lengths.tolist()
        (torch.Size([1, 100, 2]), [100])
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.frontend = build_frontend(
            config.features, config.num_mels, config.framing, config.flavor, config.num_ceps, config.deltas
        )
        self.normalize = Normalize(config.num_features)
        self.encoder = build_encoder(config.encoder)
        self.head = FrameClassifier(config.encoder.d_model, len(config.classes))

    def forward(self, waveform: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Logits [B, T, C] and frame lengths [B] of waveforms [B, N] with `lengths` [B] in samples."""
        return self.classify(*self.frontend(waveform, lengths))

    def classify(self, frames: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Logits [B, T, C] and lengths [B] of frames [B, T, F]: `forward` behind the frontend."""
        hidden, lengths = self.encoder(self.normalize(frames, lengths), lengths)
        return self.head(hidden, lengths), lengths

    def describe(self) -> str:
        """What is seen back, waited for and kept from the frontend to the logits, in frames and ms."""
        return law.describe(self.config.contexts, self.config.framing.hop_ms, self.config.context_names)

    def save(self, directory: str | Path) -> None:
        """Write config.json and model.safetensors into `directory`, each aside first and then renamed."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        write_bytes(directory / "model.safetensors", to_bytes(tensors))
        write_json(directory / "config.json", {"format_version": FORMAT_VERSION, "model": self.config.to_dict()})


def load(directory: str | Path) -> SpeechModel:
    """The model that `SpeechModel.save` wrote, in evaluation mode, on the CPU.

    Raises:
        UserError: a file is missing, damaged, of another format version, or does not fit its config.
    """
    directory = Path(directory)
    for name in ("config.json", "model.safetensors"):
        if not (directory / name).is_file():
            raise UserError(
                f"{directory} is not a saved model: {name} is missing. A training run writes one in its model/."
            )
    try:
        data = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        version = data["format_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{directory / 'config.json'} is not a model's config: {error}.") from error
    if version != FORMAT_VERSION:
        raise UserError(f"{directory} has format version {version}; this speechattn reads version {FORMAT_VERSION}.")
    model = SpeechModel(ModelConfig.from_dict(data.get("model")))
    try:
        model.load_state_dict(from_bytes((directory / "model.safetensors").read_bytes()))
    except (SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{directory / 'model.safetensors'} does not hold this model's weights: {reason}") from error
    return model.eval()
