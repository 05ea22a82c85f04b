"""Command-line options made from the fields of a dataclass: names, types, choices and help.

The help of a field is the string below it.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import difflib
import inspect
import textwrap
import types
import typing
from typing import Any, Literal, get_args, get_origin

from speechattn.cli.options import Parser, option_name

KINDS = {int: "a whole number", float: "a number", str: "text", type(None): "None"}
METAVARS = {int: "INT", float: "FLOAT", str: "STR"}


def add_fields(parser: Parser, config: Any) -> None:
    """Add an option for each field of a dataclass; `config` is an instance, which has the defaults, or the class.

    Only options that were given are in the parsed namespace. A field without a default is required.
    """
    cls = config if isinstance(config, type) else type(config)
    hints, documented = typing.get_type_hints(cls), field_docs(cls)
    for field in dataclasses.fields(cls):
        default = getattr(config, field.name, dataclasses.MISSING)
        required = default is dataclasses.MISSING
        text = documented.get(field.name, "").rstrip(".").replace("%", "%%")
        if not required:
            text += f" (default: {_shown(default)})".replace("%", "%%")
        parser.add_argument(
            option_name(field.name),
            default=argparse.SUPPRESS,
            required=required,
            help=text,
            **_arguments(hints[field.name]),
        )


def given_fields(options: argparse.Namespace, cls: type) -> dict[str, Any]:
    """Return the fields of `cls` that were given, sequences as tuples."""
    names = {field.name for field in dataclasses.fields(cls)} & vars(options).keys()
    values = {name: getattr(options, name) for name in names}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def field_docs(cls: type) -> dict[str, str]:
    """Return the string below each field of a dataclass that has one, as one line.

    Examples:
        >>> from speechattn.config import EncoderConfig
        >>> field_docs(EncoderConfig)["d_model"]
        'Features of a frame inside the encoder and at its output.'
    """
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for field, below in zip(definition.body, definition.body[1:], strict=False):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = " ".join(text.split())
    return found


def parse_value(hint: Any, text: str) -> Any:
    """Return `text` as a value of the type `hint`: int, float, str, a Literal, or a union of these and None.

    Raises:
        argparse.ArgumentTypeError: it is none; the nearest word of a Literal is named.

    Examples:
        >>> parse_value(int | Literal["symmetric"], "7"), parse_value(float | None, "None")
        (7, None)
    """
    alternatives = _alternatives(hint)
    words = [word for each in alternatives if get_origin(each) is Literal for word in get_args(each)]
    if text in words:
        return text
    if text == "None" and type(None) in alternatives:
        return None
    for kind in (int, float, str):
        if kind in alternatives:
            try:
                return kind(text)
            except ValueError:
                pass
    near = difflib.get_close_matches(text, words, n=1)
    raise argparse.ArgumentTypeError(
        f"must be {_described(alternatives, words)}, got {text!r}" + (f": did you mean {near[0]!r}?" if near else "")
    )


def _arguments(hint: Any) -> dict[str, Any]:
    """Return what argparse's add_argument needs beside name, default and help."""
    if hint is bool:
        return {"action": argparse.BooleanOptionalAction}
    if get_origin(hint) is tuple:
        each = get_args(hint)[0]
        count: int | str = "*" if get_args(hint)[-1] is Ellipsis else len(get_args(hint))
        return {"nargs": count, "type": _reader(each), "metavar": _metavar(each)}
    return {"type": _reader(hint), "metavar": _metavar(hint)}


def _reader(hint: Any) -> Any:
    return lambda text: parse_value(hint, text)


def _alternatives(hint: Any) -> tuple[Any, ...]:
    union = isinstance(hint, types.UnionType) or get_origin(hint) is typing.Union
    return get_args(hint) if union else (hint,)


def _metavar(hint: Any) -> str:
    names = []
    for each in _alternatives(hint):
        if get_origin(each) is Literal:
            names.append("{" + ",".join(get_args(each)) + "}")
        elif each in METAVARS:
            names.append(METAVARS[each])
    return "|".join(names)


def _described(alternatives: tuple[Any, ...], words: list[str]) -> str:
    kinds = [KINDS[each] for each in alternatives if each in KINDS]
    return " or ".join([*kinds, *([f"one of {', '.join(words)}"] if words else [])])


def _shown(default: Any) -> str:
    return (" ".join(map(str, default)) or "none") if isinstance(default, tuple) else str(default)
