"""Utterances by id as a sequence, sorted by id: what folders of recordings have in common once they are read."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import overload

from speechattn.data.labels.segments import Utterance
from speechattn.data.librispeech import Speaker


class UtteranceList(Sequence[Utterance]):
    """Utterances sorted by id; a subclass fills `_utterances` when it is made, and not afterwards."""

    subset: str
    _utterances: dict[str, Utterance]

    @cached_property
    def _ids(self) -> list[str]:
        return sorted(self._utterances)

    def __len__(self) -> int:
        return len(self._ids)

    @overload
    def __getitem__(self, index: int) -> Utterance: ...
    @overload
    def __getitem__(self, index: slice) -> list[Utterance]: ...
    def __getitem__(self, index: int | slice) -> Utterance | list[Utterance]:
        if isinstance(index, slice):
            return [self._utterances[id] for id in self._ids[index]]
        return self._utterances[self._ids[index]]

    @cached_property
    def speakers(self) -> dict[str, Speaker]:
        """The speakers by id, nothing else is known of them; none where an utterance has no speaker."""
        present = sorted({utterance.speaker for utterance in self._utterances.values()} - {""})
        return {id: Speaker(id, subset=self.subset) for id in present}
