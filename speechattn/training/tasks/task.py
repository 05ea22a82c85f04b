"""What the training loop, the evaluation and the report ask of a task; each task is a file beside this one.

Labels of a batch are int64 [B, L], padded with -100: L = T for a label a frame, 1 for a label an utterance, and the
length of the longest sequence for a task whose output is shorter than its frames.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Protocol

from torch import Tensor

from speechattn.data.labelled_corpus import LabelledUtterance
from speechattn.framing import Framing


class Scores(Protocol):
    """Scores that grow batch by batch."""

    def update(self, logits: Tensor, lengths: Tensor, labels: Tensor) -> None:
        """Count a batch: logits as the head gives them, their lengths [B], and labels [B, L]."""

    @property
    def count(self) -> int:
        """What was scored: frames, utterances or labels of sequences."""

    @property
    def accuracy(self) -> float:
        """The one number for which higher is better; NaN if nothing was scored."""

    def curve(self) -> dict[str, float]:
        """Return the numbers of one validation, for the learning curves; "accuracy" is one of them."""

    def summary(self) -> dict[str, Any]:
        """Return all numbers and tables as plain JSON types; "accuracy" is one of them."""


class Task(Protocol):
    """Targets, loss and scores of a recipe."""

    name: ClassVar[str]
    """Value of TrainConfig.task."""
    recipe: ClassVar[str]
    """Folder of the recipe, below recipes/."""
    head: ClassVar[str]
    """The head that the model needs, as ModelConfig names it."""
    per_frame: ClassVar[bool]
    """Whether labels are one for each frame, and are cut and stretched with the frames."""
    whole_utterances: ClassVar[bool]
    """Whether training takes utterances whole, because their labels cannot be cut."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the C classes, in the order of the logits."""

    def targets(self, item: LabelledUtterance, framing: Framing) -> Tensor:
        """Return the labels [L] of an utterance."""

    def num_targets(self, labels: Tensor) -> Tensor:
        """Return what the mean loss of labels [B, L] is the mean of."""

    def loss(self, logits: Tensor, lengths: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss in nats."""

    def accuracy(self, logits: Tensor, lengths: Tensor, labels: Tensor) -> Tensor:
        """Return the accuracy of a training batch, for the progress bar."""

    def scores(self) -> Scores:
        """Return empty scores."""

    def majority(self, labels: Iterable[Tensor]) -> int | None:
        """Return the class that a model without input should always give, from labels [L]; None if there is none."""
