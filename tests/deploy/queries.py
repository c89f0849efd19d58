"""What a PromQL query reads and groups by."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import promql_parser

FUNCTIONS: Final = {"rate", "increase", "histogram_quantile"}


@dataclass(frozen=True, slots=True)
class Selector:
    """Series of one name, or of several by a pattern, and what their labels must match."""

    name: str
    labels: dict[str, str] = field(default_factory=dict[str, str])

    def names(self, known: set[str]) -> set[str]:
        """Those of `known` that it reads."""
        return {one for one in known if re.fullmatch(self.name, one)}


def selectors(query: str) -> list[Selector]:
    """All of a query. Raises ValueError when it is no PromQL."""
    return list(_selectors(_parsed(query)))


def grouped_by(query: str) -> set[str]:
    """The labels that its result has, `le` aside."""
    return set().union(*_groupings(_parsed(query))) - {"le"}


def _parsed(query: str) -> Any:
    # Grafana puts in an interval that suits the scrapes.
    return promql_parser.parse(query.replace("$__rate_interval", "1m"))


def _selectors(part: Any) -> Iterator[Selector]:
    match part:
        case promql_parser.VectorSelector():
            labels = {one.name: one.value for one in part.matchers.matchers}
            name = part.name or labels.pop("__name__")
            yield Selector(name, labels)
        case promql_parser.MatrixSelector():
            yield from _selectors(part.vector_selector)
        case _:
            for inner in _inner(part):
                yield from _selectors(inner)


def _groupings(part: Any) -> Iterator[set[str]]:
    if isinstance(part, promql_parser.AggregateExpr) and part.modifier is not None:
        yield set(part.modifier.labels)
    for inner in _inner(part):
        yield from _groupings(inner)


def _inner(part: Any) -> list[Any]:
    match part:
        case promql_parser.Call():
            assert part.func.name in FUNCTIONS, f"{part.func.name}: see whether it is used as it should be"
            return list(part.args)
        case promql_parser.AggregateExpr():
            return [part.expr]
        case promql_parser.BinaryExpr():
            return [part.lhs, part.rhs]
        case promql_parser.ParenExpr():
            return [part.expr]
        case _:
            return []
