"""Where log lines go, and what they look like. Every process says so for itself: a worker inherits nothing.

An exception is told by its type, its SQLSTATE and where it was raised, not by its message: a database's quotes values.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import MutableMapping
from types import TracebackType
from typing import Any, Literal

import structlog
from opentelemetry import trace

from writebehind.shared.settings import LogSettings

Raised = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]

_stamp = structlog.processors.TimeStamper(fmt="iso", utc=True, key="time")


def configure_logging(settings: LogSettings) -> None:
    """Log to stderr in the form and from the level that the settings say."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(settings.format))
    logging.basicConfig(level=settings.level.upper(), handlers=[handler], force=True)


def formatter(form: Literal["json", "console"]) -> logging.Formatter:
    """`json`: an object in a line, with `time` (UTC), `level`, `logger`, `message`, and what there is of `trace_id`,
    `span_id` and `exception`. `console`: the same for people.
    """
    renderer = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if form == "json"
        else structlog.dev.ConsoleRenderer(
            colors=False,
            pad_event_to=0,
            sort_keys=False,
            event_key="message",
            timestamp_key="time",
            exception_formatter=structlog.dev.plain_traceback,
        )
    )
    return structlog.stdlib.ProcessorFormatter(processors=[_told, renderer])


def _told(logger: Any, name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    record: logging.LogRecord = event["_record"]
    told: dict[str, Any] = dict(_stamp(logger, name, {}))
    told.update(level=record.levelname, logger=record.name, message=event["event"], **trace_ids())
    if raised := event.get("exc_info"):
        told["exception"] = described(raised)
    return told


def trace_ids() -> dict[str, str]:
    """The ids of the span that is open; nothing when none is."""
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return {}
    return {"trace_id": trace.format_trace_id(context.trace_id), "span_id": trace.format_span_id(context.span_id)}


def described(raised: Raised) -> str:
    """An exception and its causes, the first one first: frames, types and SQLSTATEs."""
    parts: list[str] = []
    error = raised[1]
    while error is not None and len(parts) < CAUSES_MAX:
        state = getattr(error, "sqlstate", None)
        kind = f"{type(error).__module__}.{type(error).__qualname__}" + (f" (SQLSTATE {state})" if state else "")
        parts.append("".join(traceback.format_tb(error.__traceback__)) + kind)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\n".join(reversed(parts))


CAUSES_MAX = 5  # exceptions that raised each other
