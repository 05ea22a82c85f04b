"""How far the gradients of each backend of attention are from float64, for scores from 1e-3 to 1e9.

    python scripts/check_gradients.py
    python scripts/check_gradients.py --inputs random --backends dense banded --dtypes bfloat16
    python scripts/check_gradients.py --backends dense flex triton --frames 1000 --device cuda

A number is the largest difference of a gradient from that of `dense` in float64, over the largest value of that
gradient; the worst of q, k, v and, where there is one, the bias. `dense` in the same dtype stands beside the others:
its error is rounding alone.

`--inputs exact`, the default, draws integers from -3 to 3, queries and bias times a power of two, for which every score
is a float32: no rounding can make another key the largest, and many keys are equal. What is left is the rounding of
weights and of sums. `--inputs random` draws normal numbers: a score of 1e5 is then rounded to 1e-2, in float32 whatever
computes it, and a gradient that depends on the difference of two such scores is as uncertain in `dense`.

"-" is what a backend cannot take, and what a dtype cannot hold: float16 ends at 65504. flex and triton need a CUDA
device.
"""

from __future__ import annotations

import argparse
import math

import torch
from torch import Tensor

import speechattn as sa

HEADS, DIM = 2, 16  # a scale of a quarter is exact
MODES = {
    "softmax": (sa.Context.truncated(20, 20), "softmax", False),
    "bias": (sa.Context.truncated(20, 20), "softmax", True),
    "relu": (sa.Context.truncated(20, 20), "relu", False),
    "unlimited left": (sa.Context.causal(), "softmax", False),
    "unlimited": (sa.Context.full(), "softmax", False),
}
BACKENDS = ("dense", "banded", "native", "windows", "triton", "flex", "sdpa", "auto")
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
LARGEST = 36  # of the exact scores, before the power of two: 16 products of up to 9, over 4


def main() -> None:
    """Print a line of errors for each dtype, mode and size of scores."""
    options = parse()
    torch.set_num_threads(1)
    print(f"gradients against float64, {options.inputs} inputs, {options.frames} frames, torch {torch.__version__}")
    print(f"{'dtype':<10}{'mode':<16}{'scores':>8}" + "".join(f"{name:>10}" for name in options.backends))
    for dtype in options.dtypes:
        for mode in options.modes:
            for size in options.scores:
                errors = measure(mode, size, DTYPES[dtype], options)
                cells = "".join(f"{'-' if error is None else f'{error:.1e}':>10}" for error in errors)
                print(f"{dtype:<10}{mode:<16}{size:>8.0e}{cells}", flush=True)


def parse() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description="Gradients of attention against float64, for scores of any size.")
    parser.add_argument("--inputs", choices=("exact", "random"), default="exact")
    parser.add_argument("--backends", nargs="+", choices=BACKENDS, default=["dense", "banded", "native", "windows"])
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--scores", nargs="+", type=float, default=[1e-3, 1.0, 1e3, 1e6, 1e9], metavar="SIZE")
    parser.add_argument("--frames", type=int, default=200, metavar="T")
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


def measure(mode: str, size: float, dtype: torch.dtype, options: argparse.Namespace) -> list[float | None]:
    """Return the error of each backend, None where it cannot be computed."""
    context, scores, with_bias = MODES[mode]
    q, k, v, grad, bias = inputs(options, size, dtype, len(context.offsets()) if with_bias else 0)
    if not q.isfinite().all():
        return [None] * len(options.backends)
    wide = [None if x is None else x.double() for x in (q, k, v, bias)]
    expected = gradients(wide, grad.double(), context, scores, "dense")
    errors: list[float | None] = []
    for backend in options.backends:
        try:
            found = gradients([q, k, v, bias], grad, context, scores, backend)
        except ValueError:
            errors.append(None)
            continue
        pairs = zip(found, expected, strict=True)
        worst = [float((x - y).abs().max() / y.abs().max().clamp(min=1e-30)) for x, y in pairs]
        errors.append(math.nan if any(math.isnan(x) for x in worst) else max(worst))
    return errors


def inputs(options: argparse.Namespace, size: float, dtype: torch.dtype, offsets: int) -> list[Tensor | None]:
    """Return q, k, v and the gradient of the output, [1, H, T, D], and a bias [H, offsets] or None."""
    torch.manual_seed(0)
    shape = (1, HEADS, options.frames, DIM)
    if options.inputs == "exact":
        factor = 2.0 ** round(math.log2(size / LARGEST))
        q, k = torch.randint(-3, 4, shape) * factor, torch.randint(-3, 4, shape).float()
        bias = torch.randint(-3, 4, (HEADS, offsets)) * factor
    else:
        factor = size / 4  # a score of normal numbers is up to 4
        q, k, bias = torch.randn(shape) * factor, torch.randn(shape), torch.randn(HEADS, offsets)
    v, grad = torch.randn(shape), torch.randn(shape)
    q, k, v, grad = (x.to(options.device, dtype) for x in (q, k, v, grad))
    return [q, k, v, grad, bias.to(options.device) if offsets else None]


def gradients(
    given: list[Tensor | None], grad: Tensor, context: sa.Context, activation: str, backend: str
) -> tuple[Tensor, ...]:
    """Return the gradients of q, k, v and of the bias, if there is one."""
    q, k, v, bias = (None if x is None else x.detach().clone().requires_grad_() for x in given)
    output = sa.attention(q, k, v, context, activation=activation, relative_bias=bias, backend=backend)
    return torch.autograd.grad(output, [x for x in (q, k, v, bias) if x is not None], grad)


if __name__ == "__main__":
    main()
