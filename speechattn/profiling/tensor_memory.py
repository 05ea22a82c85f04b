"""Peak bytes of torch's tensors, counted exactly: every storage once, from its allocation until it is freed.

A dispatch mode sees the result of every operator. A storage counts until its last reference is gone, autograd's saved
tensors included; views count nothing. Temporary memory inside an operator is not seen here, only in resident memory
(system/process_memory.py). For the CPU: CUDA's allocator has its own counter. It costs microseconds per operator.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from speechattn.profiling.torch_internals import TorchDispatchMode, storage_address


class PeakTensors(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counter of new tensors while it is entered: `alive_bytes` now, and `peak_bytes` at most.

    `known` are earlier tensors, which do not count: weights, gradients, input.

    Examples:
        >>> x = torch.zeros(1000)
        >>> with PeakTensors(known=[x]) as counted:
        ...     y = x + 1
        ...     z = y.view(10, 100)[0]
        >>> counted.peak_bytes, counted.alive_bytes
        (4000, 4000)
    """

    def __init__(self, known: Iterable[Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak_bytes = 0
        self.alive_bytes = 0
        self._storages: dict[int, tuple[Any, int | None]] = {}
        """By address: a weak reference, and the bytes that count, or None for known tensors."""
        for tensor in known:
            self._note(tensor, counts=False)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        self._note_tree((args, *kwargs.values()))  # tensors made by numpy are seen when they are first used
        result = func(*args, **kwargs)
        self._note_tree(result)
        self.peak_bytes = max(self.peak_bytes, self.alive_bytes)
        return result

    def _note_tree(self, tree: Any) -> None:
        if isinstance(tree, Tensor):
            self._note(tree)
        elif isinstance(tree, (tuple, list)):
            for part in tree:
                self._note_tree(part)

    def _note(self, tensor: Tensor, counts: bool = True) -> None:
        """Count a new storage, or the growth of a known one."""
        if tensor.layout is not torch.strided or tensor.device.type == "meta":
            return
        storage, key = tensor.untyped_storage(), storage_address(tensor)
        ref, before = self._storages.get(key, (None, 0))
        if before is None:
            return
        if ref is None:
            # torch keeps the Python object of a storage as long as the storage itself.
            ref = weakref.ref(storage, lambda _: self._forget(key))
        size = storage.nbytes()
        self._storages[key] = (ref, size if counts else None)
        self.alive_bytes += size - before if counts else 0

    def _forget(self, key: int) -> None:
        _, size = self._storages.pop(key)
        self.alive_bytes -= size or 0
