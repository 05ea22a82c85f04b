"""Inside torch.func attention is dense or says so, and torch's private functions that it needs are still there."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils._python_dispatch import TorchDispatchMode

import speechattn as sa
from speechattn.attention.call import AttentionCall
from speechattn.attention.dispatch import choose
from speechattn.attention.qkv import QKV
from speechattn.planning.shapes import Shapes
from speechattn.transforms import is_recorded, is_transformed

# torch compiles forward-mode derivatives by what it calls deprecated itself.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit")
CONTEXT = sa.Context.truncated(3, 2)
ROUNDING = 1e-5


def attend(x: Tensor, backend: str = "auto") -> Tensor:
    return sa.attention(x, x, x, CONTEXT, backend=backend)


def encoder(**settings: Any) -> sa.Encoder:
    torch.manual_seed(0)
    config = sa.EncoderConfig(input_dim=8, d_model=16, num_heads=2, num_layers=2, context=CONTEXT, **settings)
    return sa.Encoder(config).eval()


def test_torch_still_has_its_private_functions() -> None:
    # Where one of these fails after an update of torch, transforms.py is the file to change.
    assert not is_transformed() and not is_recorded()
    seen = []
    torch.func.vmap(lambda x: seen.append(is_transformed()) or x)(torch.ones(2))  # type: ignore[func-returns-value]
    torch.func.grad(lambda x: seen.append(is_transformed()) or x.sum())(torch.ones(2))  # type: ignore[func-returns-value]
    with forward_ad.dual_level():
        seen.append(is_transformed())
    assert seen == [True] * 3 and not is_transformed()
    with TorchDispatchMode():  # type: ignore[no-untyped-call]
        assert is_recorded()


@pytest.mark.parametrize(
    "transform",
    [
        lambda f, x: torch.func.grad(lambda x: f(x).square().sum())(x),
        lambda f, x: torch.func.jacrev(f)(x)[0, 0, :2, 0],
        lambda f, x: torch.func.jvp(f, (x,), (x.flip(2),))[1],
        lambda f, x: torch.func.hessian(lambda a: f(a * x).square().sum())(torch.tensor(0.5)),
        lambda f, x: torch.func.vmap(f)(torch.stack([x, -x])),
    ],
    ids=["grad", "jacrev", "jvp", "hessian", "vmap"],
)
def test_attention_inside_torch_func_is_that_of_dense(transform: Callable[..., Tensor]) -> None:
    x = torch.randn(1, 2, 9, 8)
    expected = transform(lambda x: attend(x.double(), "dense"), x)
    assert (transform(attend, x) - expected).abs().max() < ROUNDING * expected.abs().max()
    for backend in ("banded", "native", "windows"):
        with pytest.raises(ValueError, match=r"torch\.func .* cannot see inside it\. Use 'auto' or 'dense'"):
            transform(lambda x, backend=backend: attend(x, backend), x)


def test_forward_mode_derivatives_are_those_of_differences() -> None:
    x, direction = torch.randn(2, 1, 2, 9, 8, dtype=torch.float64)
    with forward_ad.dual_level():
        found = forward_ad.unpack_dual(attend(forward_ad.make_dual(x, direction))).tangent  # type: ignore[no-untyped-call]
    step = 1e-6 * direction
    assert found is not None and (found - (attend(x + step) - attend(x - step)) / 2e-6).abs().max() < 1e-7


def test_gradients_of_each_row_by_vmap_are_those_of_rows_alone() -> None:
    model, x, lengths = encoder(position_encoding="learned"), torch.randn(3, 12, 8), torch.tensor([12, 0, 4])
    parameters = dict(model.named_parameters())

    def loss(parameters: dict[str, Tensor], x: Tensor, length: Tensor) -> Tensor:
        hidden = torch.func.functional_call(model, parameters, (x[None], length[None]))[0]
        return hidden[..., 0].square().sum()  # type: ignore[no-any-return]

    found = torch.func.vmap(torch.func.grad(loss), (None, 0, 0))(parameters, x, lengths)  # type: ignore[arg-type]
    for row in range(3):
        model.zero_grad()
        model(x[row : row + 1], lengths[row : row + 1])[0][..., 0].square().sum().backward()
        for name, parameter in parameters.items():
            expected = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            assert (found[name][row] - expected).abs().max() < ROUNDING * (1 + expected.abs().max())


def test_streams_can_be_mapped() -> None:
    model, x = encoder(), torch.randn(3, 1, 12, 8)
    found = torch.func.vmap(lambda x: model.step(x, model.initial_state())[0])(x)
    assert (found[:, 0] - model.step(x[:, 0], model.initial_state(3))[0]).abs().max() < ROUNDING


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_encoder_says_which_setting_differentiates_twice(dtype: torch.dtype) -> None:
    x = torch.randn(1, 9, 8, dtype=dtype, requires_grad=True)
    for ask, reason in (
        (lambda loss: torch.autograd.grad(loss(x), x, create_graph=True), "differentiated twice"),
        (lambda loss: torch.autograd.functional.jacobian(loss, x.detach(), vectorize=True), "batched by vmap"),  # type: ignore[no-untyped-call]
    ):
        model = encoder().to(dtype)
        with pytest.raises(RuntimeError, match=rf"{reason}; .* EncoderConfig\(backend='dense'\)"):
            ask(lambda x, model=model: model(x)[0].square().sum())
        model = encoder(backend="dense").to(dtype)
        assert ask(lambda x, model=model: model(x)[0].square().sum())[0].isfinite().all()
    assert torch.autograd.gradgradcheck(
        lambda x: encoder(backend="dense").double()(x)[0][..., 0],
        x.detach().double().requires_grad_(),
        fast_mode=True,
    )


def test_every_layer_follows_the_backend_of_the_config() -> None:
    x = torch.randn(2, 40, 8)
    models = [encoder(backend=backend) for backend in ("auto", "dense", "banded", "windows")]
    outputs = [model(x)[0] for model in models]
    assert all((output - outputs[0]).abs().max() < ROUNDING for output in outputs)
    for model in models:
        assert {block.attention.backend for block in model.blocks} == {model.config.backend}  # type: ignore[union-attr]
    # A stream does not use it, and a state fits every one of them.
    _, state = models[0].step(x, models[0].initial_state(2))
    assert (models[1].flush(state) - models[0].flush(state)).abs().max() == 0
    saved = models[0].config.to_dict()
    del saved["backend"]
    assert sa.EncoderConfig.from_dict(saved) == models[0].config
    with pytest.raises(sa.ConfigError, match=r"backend must be one of auto, .*, got 'bandet'\. Did you mean 'banded'"):
        encoder(backend="bandet")
    with pytest.raises(ValueError, match="cannot take this call: it takes softmax over an unlimited context"):
        encoder(backend="sdpa")(x)


def test_an_estimate_follows_the_backend_of_the_config() -> None:
    config = encoder().config
    assert Shapes(config, 1000).backend(CONTEXT) == "native"
    dense = encoder(backend="dense").config
    assert Shapes(dense, 1000).backend(CONTEXT) == "dense"
    assert sa.estimate(dense, 4000).peak_bytes > 10 * sa.estimate(config, 4000).peak_bytes


def test_full_attention_learns_without_the_kernel_of_torch() -> None:
    q, call = torch.randn(1, 1, 600, 12), AttentionCall(sa.Context.full())
    assert choose(QKV(q, q, q), call) == "sdpa"
    q.requires_grad_()
    assert choose(QKV(q, q, q), call) == "banded"
    with torch.no_grad():
        assert choose(QKV(q, q, q), call) == "sdpa"
