"""The reference of what services import, from signatures and docstrings. What is not told there is an error."""

from __future__ import annotations

import dataclasses
import inspect
import re
import textwrap
import typing
from collections.abc import Callable, Collection
from typing import Any

from docs.site.tables import plain, table

from writebehind import producer
from writebehind.producer import AsyncClient, AsyncReceipt, CacheAside, WriteBehind, WriteThrough
from writebehind.shared.errors import WritebehindError

_TOLD = re.compile(r"^(\w+): (.+(?:\n {4}.+)*)", re.MULTILINE)
_RAISES = re.compile(r"(?:^|(?<=[.] ))Raises (.+(?:\n\S.*)*)", re.MULTILINE)
_INTERNAL = {"loaded", "unloaded"}  # what functions made by `cached` call
_WIDTH = 100


@dataclasses.dataclass(frozen=True, slots=True)
class Docstring:
    """A docstring taken apart: what is said, of each parameter, and of errors."""

    text: str
    parameters: dict[str, str]
    raises: str

    @classmethod
    def of(cls, told: Any, names: Collection[str] = ()) -> Docstring:
        """`names`: the parameters or options. Raises LookupError when there is no docstring, or it names another."""
        text = inspect.getdoc(told)
        if not text:
            raise LookupError(f"{told.__qualname__} has no docstring")
        found = _RAISES.search(text)
        text = _RAISES.sub("", text)
        parameters = {name: plain(" ".join(said.split())) for name, said in _TOLD.findall(text)}
        if unknown := parameters.keys() - set(names):
            raise LookupError(f"{told.__qualname__} has no {sorted(unknown)}")
        return cls(_fenced(_TOLD.sub("", text)), parameters, plain(" ".join(found[1].split())) if found else "")


def strategies() -> str:
    """Each strategy with its options. Raises LookupError when a docstring leaves one out."""
    parts: list[str] = []
    for strategy in (WriteBehind, CacheAside, WriteThrough):
        fields = dataclasses.fields(strategy)
        told = Docstring.of(strategy, [field.name for field in fields])
        if missing := {field.name for field in fields} - told.parameters.keys():
            raise LookupError(f"{strategy.__name__} does not tell {sorted(missing)}")
        rows = [
            (f"`{field.name}`", _type(strategy, field.name), f"`{field.default!r}`", told.parameters[field.name])
            for field in fields
        ]
        parts += [f"## {strategy.__name__}", told.text, table(("option", "type", "default", "meaning"), rows)]
    return "\n\n".join(parts)


def _type(strategy: type, name: str) -> str:
    hint = typing.get_type_hints(strategy)[name]
    if values := typing.get_args(hint):
        return ", ".join(f"`{value!r}`" for value in values)
    kind = {float: "number", bool: "yes or no", str: "text"}[hint]
    return f"{kind}, seconds" if name.endswith("_s") else kind


def client() -> str:
    """The methods of a client, in the order of the source."""
    methods = [name for name in vars(AsyncClient) if not name.startswith("_") and name not in _INTERNAL]
    return "\n\n".join(f"### {name}\n\n{_function(getattr(AsyncClient, name))}" for name in methods)


def receipt() -> str:
    """What a write gives back."""
    return f"{Docstring.of(AsyncReceipt).text}\n\n### flushed\n\n{_function(AsyncReceipt.flushed)}"


def cached_results() -> str:
    """The decorator for results of functions."""
    return _function(producer.cached)


def errors() -> str:
    """Every error that services can import, below the one that it is a kind of."""
    named = (getattr(producer, name) for name in producer.__all__)
    kinds = [kind for kind in named if isinstance(kind, type) and issubclass(kind, WritebehindError)]
    rows = [(f"`{kind.__name__}`", f"`{kind.__bases__[0].__name__}`", Docstring.of(kind).text) for kind in kinds]
    return table(("error", "a kind of", "meaning"), rows)


def _function(function: Callable[..., Any]) -> str:
    found = inspect.signature(function)
    told = Docstring.of(function, found.parameters)
    parameters = "\n".join(f"- `{name}`: {said}" for name, said in told.parameters.items())
    raises = told.raises and f"**Raises** {told.raises}"
    parts = [f"```python\n{_call(function, found)}\n```", told.text, parameters, raises]
    return "\n\n".join(part for part in parts if part)


def _call(function: Callable[..., Any], found: inspect.Signature) -> str:
    """A call with the annotations as they are written, on one line when there is room."""
    parameters = [p for p in found.parameters.values() if p.name not in ("self", "cls")]
    by_place = [_parameter(p) for p in parameters if p.kind is p.POSITIONAL_ONLY]
    either = [_parameter(p) for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL)]
    by_name = [_parameter(p) for p in parameters if p.kind is p.KEYWORD_ONLY]
    rest = [_parameter(p) for p in parameters if p.kind is p.VAR_KEYWORD]
    parts = [*by_place, *["/"][: len(by_place)], *either, *["*"][: len(by_name)], *by_name, *rest]
    word = "await " if inspect.iscoroutinefunction(function) else ""
    head, tail = f"{word}{function.__name__}(", f") -> {found.return_annotation}"
    line = f"{head}{', '.join(parts)}{tail}"
    return line if len(line) <= _WIDTH else "\n".join([head, *(f"    {part}," for part in parts), tail])


def _parameter(parameter: inspect.Parameter) -> str:
    stars = {"VAR_POSITIONAL": "*", "VAR_KEYWORD": "**"}.get(parameter.kind.name, "")
    default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
    return f"{stars}{parameter.name}: {parameter.annotation}{default}"


def _fenced(text: str) -> str:
    """With what is indented as code."""
    parts = re.split(r"\n{2,}", text.strip())
    return "\n\n".join(
        f"```python\n{textwrap.dedent(part)}\n```" if part.startswith("    ") else plain(part) for part in parts
    )
