"""What Prometheus is told, against what is declared: no series, label or value that nobody bounds."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence

from writebehind.shared.telemetry import Series

SAMPLE = re.compile(r"^(\w+?)(?:_bucket|_sum|_count)?(?:\{(.*)\})? (\S+)$")
LABEL = re.compile(r'(\w+)="([^"]*)"')
# SQLSTATEs and their classes, names of librdkafka's errors and of exception classes: lists of the libraries.
CODE = re.compile(r"|[0-9A-Z]{5}|\w\wxxx|_?[A-Z_]+|[A-Za-z]+")
SUFFIXES = {"s": "_seconds", "By": "_bytes"}  # what the exporter appends to a name, by unit


def flat(name: str) -> str:
    """A name of an attribute as Prometheus has it."""
    return name.replace(".", "_")


def check_bounds(text: str, declared: Sequence[Series], bounds: Mapping[str, Collection[str]]) -> set[str]:
    """Each sample is of a declared series and has its labels with values of a bounded list. Gives the series."""
    bounded = {flat(name): values for name, values in bounds.items()}
    by_name = {exported(series): series for series in declared}
    seen: set[str] = set()
    for line in text.splitlines():
        if line.startswith(("#", "target_info", "otel_sdk")):
            continue
        found = SAMPLE.match(line)
        assert found is not None, line
        series = by_name.get(found[1])
        assert series is not None, f"{line}: not declared"
        seen.add(series.name)
        for label, value in LABEL.findall(found[2] or ""):
            if label == "le" and series.kind == "histogram":
                continue
            assert label in map(flat, series.attributes), f"{line}: {label} is not declared"
            assert value in bounded[label] if label in bounded else CODE.fullmatch(value), f"{line}: {value}"
    return seen


def samples(text: str) -> Callable[..., float]:
    """Asks the text for the sum of the samples with these labels; an empty label is one that is not there."""

    def total(name: str, **labels: str) -> float:
        found = 0.0
        for line in text.splitlines():
            sample, _, value = line.rpartition(" ")
            if sample.partition("{")[0] == name:
                there = dict(LABEL.findall(sample))
                found += float(value) if all(there.get(label, "") == v for label, v in labels.items()) else 0.0
        return found

    return total


def exported(series: Series) -> str:
    """Its name as Prometheus has it."""
    return flat(series.name) + SUFFIXES.get(series.unit, "") + ("_total" if series.kind == "counter" else "")
