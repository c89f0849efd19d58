"""The settings as environment variables: what the documentation lists and what manifests are checked against."""

from __future__ import annotations

import builtins
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from .settings import PREFIX, Settings

#: Read before the settings themselves: they say where some of those are.
SOURCES = {
    "WRITEBEHIND_CONFIG": "a TOML file with settings; default writebehind.toml, if it exists",
    "WRITEBEHIND_SECRETS_DIR": "a folder with a file per setting, named like its variable, such as a mounted secret",
}


@dataclass(frozen=True, slots=True)
class Variable:
    """One setting. `default` is None when it has to be given, else its text."""

    name: str
    group: str
    type: str
    default: str | None
    description: str
    secret: bool


def variables(model: type[BaseModel] = Settings, prefix: str = PREFIX, group: str = "") -> Iterator[Variable]:
    """Every setting, in the order of its declaration, those of a group after those that have none."""
    for name, field in model.model_fields.items():
        variable = prefix + (field.alias or name).upper()
        inner = _group(field.annotation)
        if inner is None:
            yield Variable(
                variable, group, _type(field.annotation), _default(field), field.description or "", _secret(field)
            )
        else:
            yield from variables(inner, f"{variable}__", name)


def _group(annotation: Any) -> type[BaseModel] | None:
    for option in typing.get_args(annotation) or (annotation,):
        if isinstance(option, type) and issubclass(option, BaseModel):
            return option
    return None


def _type(annotation: Any) -> str:
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return "secret" if annotation is SecretStr else annotation.__name__
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return " or ".join(_type(option) for option in typing.get_args(annotation) if option is not types.NoneType)
    if typing.get_origin(annotation) is typing.Literal:
        return " or ".join(str(option) for option in typing.get_args(annotation))
    match typing.get_origin(annotation):
        case builtins.list:
            return "names, comma separated"
        case builtins.dict:
            return "JSON object"
        case _:
            return str(annotation)


def _secret(field: FieldInfo) -> bool:
    return field.annotation is SecretStr or SecretStr in typing.get_args(field.annotation)


def _default(field: FieldInfo) -> str | None:
    if field.is_required():
        return None
    value: object = field.get_default(call_default_factory=True)
    match value:
        case None:
            return "unset"
        case list() | dict() if not value:
            return "none"
        case _:
            return str(value)
