"""The encoder with Hugging Face's hub mixin: `save_pretrained`, `from_pretrained`, `push_to_hub`, without transformers.

A folder holds the config as JSON and the weights as safetensors, with the names of `Encoder`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from speechattn.config import EncoderConfig
from speechattn.encoder.encoder import Encoder
from speechattn.integrations.requirements import needs

with needs("huggingface_hub", "Install it with: pip install huggingface_hub"):
    from huggingface_hub import PyTorchModelHubMixin


class HubEncoder(Encoder, PyTorchModelHubMixin):
    """An `Encoder` that can be saved to a folder or to the hub, and loaded again."""

    def __init__(self, config: EncoderConfig | Mapping[str, Any]) -> None:
        super().__init__(config if isinstance(config, EncoderConfig) else EncoderConfig.from_dict(config))

    @classmethod
    def _from_pretrained(cls, *, strict: bool = True, **options: Any) -> Any:
        """Load as the mixin does, but raise an error for missing and unexpected weights unless `strict` is False."""
        return super()._from_pretrained(strict=strict, **options)
