"""Log lines: for people and for machines, with the open trace's id, and never a value of a row."""

from __future__ import annotations

import json
import logging
import sys
from typing import Literal

import psycopg
import pytest
from opentelemetry.sdk.trace import TracerProvider

from writebehind.flusher.logs import formatter


class Refused(psycopg.errors.CheckViolation):
    """As the database tells it."""


SECRET = "s3cret"


def refuse() -> None:
    raise Refused(f"Failing row contains (1, {SECRET})")


def raised() -> Exception:
    try:
        refuse()
    except Refused as cause:
        error = RuntimeError(f"while writing {SECRET}")
        error.__cause__ = cause
        return error
    raise AssertionError


BOTH = pytest.mark.parametrize("form", ["console", "json"])


def line(form: Literal["json", "console"], message: str = "it %s", error: Exception | None = None) -> str:
    info = None if error is None else (type(error), error, error.__traceback__)
    record = logging.LogRecord("writebehind.flusher", logging.ERROR, __file__, 1, message, ("broke",), info)
    return formatter(form).format(record)


@BOTH
def test_an_exception_is_told_without_its_message(form: Literal["json", "console"]) -> None:
    told = line(form, error=raised())
    assert SECRET not in told
    for part in ("Refused (SQLSTATE 23514)", "builtins.RuntimeError", "test_logs.py"):
        assert part in told
    assert told.index("Refused (SQLSTATE") < told.index("builtins.RuntimeError"), "the cause comes first"


def test_a_json_line_is_one_object() -> None:
    told = line("json", "two\nlines %s", raised())
    assert "\n" not in told
    assert {"level": "ERROR", "logger": "writebehind.flusher", "message": "two\nlines broke"}.items() <= json.loads(
        told
    ).items()


@BOTH
def test_the_open_span_is_named(form: Literal["json", "console"]) -> None:
    assert "trace_id" not in line(form)
    provider = TracerProvider(shutdown_on_exit=False)
    with provider.get_tracer("test").start_as_current_span("process") as span:
        told = line(form)
    assert format(span.get_span_context().trace_id, "032x") in told
    assert format(span.get_span_context().span_id, "016x") in told
    assert sys.exc_info() == (None, None, None)
