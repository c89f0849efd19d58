"""What `writebehind audit` does, once its options are read."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from writebehind.shared.errors import ConfigurationError
from writebehind.shared.registry import Registry
from writebehind.shared.settings import Settings

from ..letters.render import Bar
from ..logs import configure_logging
from ..telemetry import Telemetry
from . import measures, report
from .options import Options, Repair, parse_share
from .page import page
from .run import Audit, Result, audit
from .suspects import Patience
from .watch import watch

RUNS_SHOWN = 200  # in the plots
GRACE_S = 15.0  # beyond a producer's longest delivery, until the flusher has flushed and settled it


@dataclass(frozen=True, slots=True)
class Output:
    """Where the result goes."""

    as_json: bool
    html: Path | None


def options(  # noqa: PLR0913  # what a command line may say
    settings: Settings,
    registry: Registry,
    *,
    names: Sequence[str],
    keys: Sequence[str],
    sample: str,
    keys_per_s: float,
    from_database: bool,
    confirm_s: float,
    wait_s: float | None,
    repair: Repair | None,
    apply: bool,
    show_values: bool,
) -> Options:
    """The options, checked. Raises ConfigurationError."""
    entities = [registry[name].name for name in dict.fromkeys(names)] or [d.name for d in registry]
    if not entities:
        raise ConfigurationError("there are no entities to audit")
    if keys and len(entities) != 1:
        raise ConfigurationError("--key needs the one entity whose keys they are: writebehind audit ENTITY --key KEY")
    if apply and repair is None:
        raise ConfigurationError("--apply carries out what --repair says: give --repair invalidate, re-enqueue or auto")
    delivery_s = settings.producer.delivery_timeout_s
    patience = Patience(confirm_s, delivery_s, delivery_s + GRACE_S if wait_s is None else wait_s)
    return Options(
        tuple(entities),
        tuple(keys),
        parse_share(sample),
        keys_per_s,
        from_database,
        patience,
        repair,
        apply,
        show_values,
    )


def run(
    settings: Settings, registry: Registry, given: Options, output: Output, *, resume: bool, interval_s: float | None
) -> int:
    """Audit once, or again and again with pauses of `interval_s`. Gives the exit code."""
    configure_logging(settings.log)
    with (
        Telemetry.open(os.environ, prometheus=False, service=measures.SERVICE, close_s=measures.CLOSE_S) as telemetry,
        _stopped() as stop,
        audit(settings, registry, given, measures.Measures(telemetry.meter), stop) as job,
    ):

        def once() -> Result:
            with Bar() as bar:
                shown = 0

                def told(seen: int, total: int) -> None:
                    nonlocal shown
                    if not shown:
                        bar.start("entries", max(seen, total))
                    bar.advance(seen - shown)
                    shown = seen

                return job.run(told, resume=resume)

        def tell(result: Result) -> None:
            _print(job, result, output)

        if interval_s is not None:
            return watch(once, tell, stop, interval_s=interval_s).code
        result = once()
        tell(result)
        return result.code


def _print(job: Audit, result: Result, output: Output) -> None:
    if output.as_json:
        print(json.dumps(result.as_json()), flush=True)
    else:
        print("\n".join(report.lines(result)), flush=True)
    if output.html is not None:
        _write_page(output.html, page(result, job.runs.history(RUNS_SHOWN)))


def _write_page(path: Path, text: str) -> None:
    """Whole or not at all: somebody may be looking at the page of the run before."""
    new = path.with_name(path.name + ".new")
    try:
        new.write_text(text, encoding="utf-8")
        new.replace(path)
    except OSError as error:
        raise ConfigurationError(f"--html {path}: {error.strerror}") from None


@contextmanager
def _stopped() -> Iterator[threading.Event]:
    """An event that SIGTERM and Ctrl-C set; once it is set, they end the process as they would any other."""
    stop = threading.Event()
    before: dict[int, Any] = {}

    def give_back() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def told(*_: object) -> None:
        stop.set()
        give_back()

    for number in (signal.SIGTERM, signal.SIGINT):
        before[number] = signal.signal(number, told)
    try:
        yield stop
    finally:
        give_back()
