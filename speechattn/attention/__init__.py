"""Frames see frames: masks, the executions of attention, positions, and the multi-head layer.

The public function `sa.attention` has the name of this package, and `speechattn/__init__.py` keeps the name for it.
Statements like ``import speechattn.attention.masks as masks`` look for the file on the function, so it has them all.
"""

from types import ModuleType

from speechattn.attention import convolution, functional, layer, masks, positions

for _name, _file in list(globals().items()):
    if isinstance(_file, ModuleType):
        setattr(functional.attention, _name, _file)

__all__ = ["convolution", "functional", "layer", "masks", "positions"]
