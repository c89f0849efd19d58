"""Planting bugs: code that ships, or a model of it, with one line of it wrong."""

from __future__ import annotations
import __future__

import contextlib
import importlib
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

from writebehind.shared.scripts import Script


@dataclass(frozen=True)
class Bug:
    """`function` is the qualified name, in `module`, of a function or script whose source has `right` exactly once."""

    name: str
    module: str
    function: str
    right: str
    wrong: str


@contextlib.contextmanager
def planted(bug: Bug) -> Iterator[None]:
    """The code with the bug's line in the place of the right one."""
    owner: Any = importlib.import_module(bug.module)
    *classes, name = bug.function.split(".")
    for part in classes:
        owner = getattr(owner, part)
    right = getattr(owner, name)
    with mock.patch.object(owner, name, _script(bug, right) if isinstance(right, Script) else _function(bug, right)):
        yield


def _script(bug: Bug, right: Script) -> Script:
    return Script.of(_changed(bug, right.text))


def _function(bug: Bug, right: Any) -> Any:
    source = _changed(bug, textwrap.dedent(inspect.getsource(right)))
    flag = __future__.annotations.compiler_flag
    code = compile(source, bug.module, "exec", flag, dont_inherit=True)
    made: dict[str, Any] = {}
    exec(code, importlib.import_module(right.__module__).__dict__, made)  # noqa: S102  # our own source, one line of it changed
    return made[right.__name__]


def _changed(bug: Bug, source: str) -> str:
    if source.count(bug.right) != 1:
        raise LookupError(f"{bug.name}: {bug.function} has the line {source.count(bug.right)} times: {bug.right}")
    return source.replace(bug.right, bug.wrong)
