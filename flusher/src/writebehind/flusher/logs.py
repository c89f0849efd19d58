"""Where log lines go, and what they look like. Every process says so for itself: a worker inherits nothing.

An exception is told by its type, its SQLSTATE and where it was raised, not by its message: a database's quotes values.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from types import TracebackType
from typing import Any

from opentelemetry import trace

from writebehind.shared.settings import LogSettings

Raised = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


def configure_logging(settings: LogSettings) -> None:
    """Log to stderr in the form and from the level that the settings say."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Json() if settings.format == "json" else Console())
    logging.basicConfig(level=settings.level.upper(), handlers=[handler], force=True)


class Console(logging.Formatter):
    """A line for people."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """One line, with the trace's id when a span is open, and the frames of an exception."""
        record.exc_text = None  # of another handler's formatter
        ids = trace_ids()
        line = super().format(record)
        return f"{line} trace_id={ids['trace_id']} span_id={ids['span_id']}" if ids else line

    def formatException(self, ei: Raised) -> str:  # noqa: N802  # the name that logging calls
        """Without the message."""
        return described(ei)


class Json(logging.Formatter):
    """A JSON object in a line, for machines: `time` (UTC), `level`, `logger`, `message`, and what there is of ids and
    `exception`.
    """

    def format(self, record: logging.LogRecord) -> str:
        """One object in one line."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        told: dict[str, Any] = {
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **trace_ids(),
        }
        if record.exc_info:
            told["exception"] = described(record.exc_info)
        return json.dumps(told, ensure_ascii=False)


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
