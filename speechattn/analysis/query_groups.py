"""Groups of queries by their label: families of phones, or the classes themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from speechattn.data.labels.families import FAMILIES, family

UNLABELLED = "unlabelled"
MAX_CLASSES = 12
"""Classes up to which each is a group of its own, if they are no phones."""
ALL = "all frames"


class QueryGroups(NamedTuple):
    """Names of the groups, and the group of each class [C]; frames without a label belong to the last group."""

    names: tuple[str, ...]
    of_class: Tensor

    def of_labels(self, labels: Tensor) -> Tensor:
        """Return the group of each label [T]; a negative label is none."""
        if not len(self.of_class):
            return torch.full_like(labels, len(self.names) - 1)
        groups = self.of_class[labels.clamp(min=0)]
        return torch.where(labels < 0, len(self.names) - 1, groups)


def query_groups(classes: Sequence[str]) -> QueryGroups:
    """Return families if the classes are phones, few other classes one by one, and one group for everything else.

    Examples:
        >>> query_groups(("SIL", "AA", "T", "D")).names
        ('silence', 'vowel', 'stop', 'unlabelled')
        >>> query_groups(("SIL", "SPEECH")).names, query_groups(()).names
        (('SIL', 'SPEECH', 'unlabelled'), ('all frames',))
    """
    families = [family(name) for name in classes]
    if len({name for name in families if name not in ("silence", "other")}) > 1:
        names = tuple(name for name in FAMILIES if name in families)
        of_class = torch.tensor([names.index(name) for name in families])
    elif 0 < len(classes) <= MAX_CLASSES:
        names, of_class = tuple(classes), torch.arange(len(classes))
    else:
        return QueryGroups((ALL,), torch.empty(0, dtype=torch.int64))
    return QueryGroups((*names, UNLABELLED), of_class)
