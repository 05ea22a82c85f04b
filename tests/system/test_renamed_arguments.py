"""An old keyword argument fails with the new one in the message; nothing else of the callable changes."""

import inspect
from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler

import pytest

from speechattn.system.renamed_arguments import renamed


@renamed(execution="backend")
def run(frames: int, *, backend: str = "auto") -> str:
    """Return the backend."""
    if backend == "broken":
        raise TypeError("from inside")
    return backend * frames


@renamed(scores="activation")
@dataclass(frozen=True)
class Options:
    """Options of a layer."""

    activation: str = "softmax"


def test_an_old_name_fails_with_the_new_one() -> None:
    with pytest.raises(TypeError, match=r"^run\(\) has no argument 'execution': use backend=\.$"):
        run(1, execution="dense")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"^Options\(\) has no argument 'scores': use activation=\.$"):
        Options(scores="relu")  # type: ignore[call-arg]


def test_other_mistakes_keep_their_message() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'backendd'"):
        run(1, backendd="dense")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="from inside"):
        run(1, backend="broken")


def test_signature_docstring_and_pickle_are_those_of_the_decorated_object() -> None:
    assert str(inspect.signature(run)).startswith("(frames: int, *, backend: str = 'auto')")
    assert list(inspect.signature(Options).parameters) == ["activation"]
    assert run.__doc__ == "Return the backend."
    assert ForkingPickler.loads(ForkingPickler.dumps(Options("relu"))) == Options("relu")
