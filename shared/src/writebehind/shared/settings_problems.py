"""What is wrong with settings, in the words of the variables that mend it. Never a value: it may be a secret."""

from __future__ import annotations

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

Location = tuple[int | str, ...]


def problems(model: type[BaseModel], error: ValidationError, *, prefix: str) -> list[str]:
    """One line per problem: the variable, what is wrong, what it means, its default and unit."""
    return [
        _problem(model, place, found["msg"], prefix)
        for found in error.errors(include_input=False, include_url=False, include_context=False)
        for place in (_required(model, found["loc"]) if found["type"] == "missing" else [found["loc"]])
    ]


def _required(model: type[BaseModel], location: Location) -> list[Location]:
    """What is missing: of a group that is missing altogether, the settings that have no default."""
    group = model.model_fields[str(location[0])].annotation if len(location) == 1 else None
    if not (isinstance(group, type) and issubclass(group, BaseModel)):
        return [location]
    return [(*location, name) for name, field in group.model_fields.items() if field.is_required()]


def _problem(model: type[BaseModel], location: Location, message: str, prefix: str) -> str:
    if not location:
        return message  # groups that contradict each other: the message names the variables
    variable = prefix + "__".join(str(part).upper().rstrip("_") for part in location)
    described = _describe(model, location)
    return f"{variable}: {message}" + (f" ({described})" if described else "")


def _describe(model: type[BaseModel], location: Location) -> str:
    fields: dict[str, FieldInfo] = model.model_fields
    text = ""
    for part in location:
        field = next((f for name, f in fields.items() if part in (name, f.alias)), None)
        if field is None:
            return text
        text = field.description or ""
        if not field.is_required() and text:
            text += f"; default {field.get_default(call_default_factory=True)}"
        annotation = field.annotation
        fields = annotation.model_fields if isinstance(annotation, type) and issubclass(annotation, BaseModel) else {}
    return text
