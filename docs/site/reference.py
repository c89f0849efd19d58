"""The reference's tables, made from the code each time the site is built: they cannot be out of date."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import psycopg
import typer
from docs.site import api
from docs.site.tables import plain, table
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CollectorRegistry, generate_latest

from writebehind.flusher import cli, triage
from writebehind.shared import letter, telemetry, telemetry_producer
from writebehind.shared.settings import PROTECTED_KAFKA_OPTIONS, Settings
from writebehind.shared.settings_reference import SOURCES, variables

_DIRECTIVE = re.compile(r"^<!-- reference: (\w+) -->$", re.MULTILINE)
_TYPES = {
    "list[str]": "text",
    "str": "text",
    "int": "number",
    "int range": "number",
    "float": "number",
    "float range": "number",
    "bool": "yes or no",
}


def filled(markdown: str) -> str:
    """A page with the tables in the place of its directives. Raises KeyError for one that we do not make."""
    return _DIRECTIVE.sub(lambda match: _MAKERS[match[1]](), markdown)


def _settings() -> str:
    """Every variable, with its unit and default."""
    parts = [table(("variable", "meaning"), ((f"`{name}`", text) for name, text in SOURCES.items()))]
    groups: dict[str, list[Sequence[str]]] = {}
    for variable in variables():
        default = "**needed**" if variable.default is None else f"`{variable.default}`"
        row = (f"`{variable.name}`", _TYPES.get(variable.type, variable.type), default, variable.description)
        groups.setdefault(variable.group, []).append(row)
    for group, rows in groups.items():
        if group:
            parts += [f"## {group}", (inspect.getdoc(Settings.model_fields[group].annotation) or "")]
        parts.append(table(("variable", "type", "default", "meaning"), rows))
    return "\n\n".join(parts)


def _protected_kafka_options() -> str:
    return ", ".join(f"`{name}`" for name in sorted(PROTECTED_KAFKA_OPTIONS)) + "."


def _commands() -> str:
    """Every command and option, as `--help` tells them."""
    if not any(info.name == "stack" for info in cli.app.registered_groups):
        cli.add_commands_of_others()
    root: Any = typer.main.get_command(cli.app)  # typer does not export the classes of what it makes
    parts: list[str] = []
    for words, command in _leaves(root, ("writebehind",)):
        context = typer.Context(command, info_name=" ".join(words))
        usage = " ".join((*words, *command.collect_usage_pieces(context)))
        records = [record for p in command.params if (record := p.get_help_record(context))]
        parts += [f"## {' '.join(words[1:])}", plain(inspect.cleandoc(command.help or "")), f"```text\n{usage}\n```"]
        parts.append(table(("option", "meaning"), ((_option(name), text) for name, text in records)))
    return "\n\n".join(parts)


def _leaves(group: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in sorted(group.commands.items()):
        if hasattr(command, "commands"):
            yield from _leaves(command, (*words, name))
        else:
            yield (*words, name), command


def _option(name: str) -> str:
    """An option and what it takes, in words of the user's and not of Python's."""
    for python, said in _TYPES.items():
        name = name.replace(f"<{python}>", f"<{said}>")
    return f"<code>{plain(name.strip()).replace('|', '&#124;')}</code>"


def _metrics() -> str:
    """Every series of every list in `telemetry` and `telemetry_producer`."""
    parts: list[str] = []
    for name, group in (vars(telemetry_producer) | vars(telemetry)).items():
        if name.isupper() and isinstance(group, Sequence) and group and isinstance(group[0], telemetry.Series):
            rows = [
                (
                    f"`{series.name}`<br>`{_prometheus_name(series)}`",
                    f"{series.kind}, `{series.unit}`",
                    plain(series.description) + "".join(f"<br>`{attribute}`" for attribute in series.attributes),
                )
                for series in group
            ]
            parts += [
                f"## {name.lower().replace('_', ' ')}",
                table(("series", "kind, unit", "meaning, attributes"), rows),
            ]
    return "\n\n".join(parts)


def _spans() -> str:
    rows = [
        (
            f"`{span.name}`",
            span.kind,
            plain(span.description) + "".join(f"<br>`{attribute}`" for attribute in span.attributes),
        )
        for span in telemetry.SPANS
    ]
    return table(("span", "kind", "meaning, attributes"), rows)


def _attributes() -> str:
    """Raises KeyError when one has no meaning."""
    lists = [s.attributes for s in (*telemetry_producer.PRODUCER, *telemetry.FLUSHER)]
    used = {name for found in (*lists, *(span.attributes for span in telemetry.SPANS)) for name in found}
    rows = (
        (
            f"`{name}`",
            telemetry.ATTRIBUTES[name],
            ", ".join(f"`{value}`" for value in sorted(telemetry.VALUES.get(name, ()))),
        )
        for name in sorted(used)
    )
    return table(("attribute", "meaning", "values"), rows)


def _prometheus_name(series: telemetry.Series) -> str:
    """What the exporter makes of the name: asked, not guessed."""
    registry = CollectorRegistry()
    reader = PrometheusMetricReader(scope_info_enabled=False, disable_target_info=True, registry=registry)
    provider = MeterProvider([reader], shutdown_on_exit=False)
    meter = provider.get_meter(telemetry.SCOPE)
    match series.kind:
        case "counter":
            series.counter(meter).add(1)
        case "histogram":
            series.histogram(meter).record(1)
        case "gauge":
            series.watch(meter, lambda: [Observation(1)])
    found = re.search(r"^# TYPE (\S+)", generate_latest(registry).decode(), re.MULTILINE)
    provider.shutdown()
    if found is None:
        raise LookupError(f"the exporter gives no series for {series.name}")
    return found[1]


_HEADERS: Mapping[str, str] = {
    "__connect.errors.topic": "topic the record came from",
    "__connect.errors.partition": "its partition",
    "__connect.errors.offset": "its offset",
    "__connect.errors.connector.name": "consumer group of the flusher",
    "__connect.errors.task.id": "flusher process",
    "__connect.errors.stage": f"`{letter.REFUSED}`: it was refused; `{letter.UNREADABLE}`: it could not be read",
    "__connect.errors.exception.class.name": "class of the exception",
    "__connect.errors.exception.message": "reason in words, without values of the row",
    "__connect.errors.exception.stacktrace": "always empty: a trace could quote values",
    "writebehind.topic_id": "id of the topic the record came from: a topic made again has another one",
    "writebehind.entity": "name of the entity",
    "writebehind.table": "its table",
    "writebehind.version": "version of the write; absent when the record could not be read",
    "writebehind.sqlstate": "SQLSTATE, when the database gave one",
    "writebehind.constraint": "constraint that refused the row, when the database named one",
    "writebehind.column": "column, when the database named one",
    "writebehind.attempts": "how often the record was tried",
    "writebehind.first_failed_at": "when it failed first, ISO 8601",
    "writebehind.last_failed_at": "when it failed last, ISO 8601",
}


def _letter_headers() -> str:
    """Raises LookupError when the code has a header that is not described here, or the other way round."""
    origin, cause = letter.Origin("", "", 0, 0), letter.Cause("", "", "", "", "", "", 1, "", "")
    made = letter.headers((), origin, entity="", table="", version=1, cause=cause, connector="", task="")
    names = [name for name, _ in made]
    if set(names) != set(_HEADERS):
        raise LookupError(f"describe in docs/site/reference.py: {set(names) ^ set(_HEADERS)}")
    return table(("header", "meaning"), ((f"`{name}`", _HEADERS[name]) for name in names))


_VERDICTS: Mapping[triage.Verdict, tuple[str, str]] = {
    triage.Verdict.FENCED: ("fenced", "another flusher owns the partition now; the batch is dropped"),
    triage.Verdict.TRANSIENT: ("passes", "tried again for ever, with growing delays"),
    triage.Verdict.SYSTEMIC: (
        "mend",
        "the entity stops and says so until somebody mends it; it is still tried, slowly",
    ),
    triage.Verdict.POISON: ("data", "the record becomes a dead letter"),
    triage.Verdict.BUG: ("ours", "the process ends, because going on could hide a loss"),
}


def _verdicts() -> str:
    lines = [f"- **{word}**: {meaning}" for word, meaning in _VERDICTS.values()]
    lines.append(f"- **then**: after {triage.REPEATS_MAX} failures in a row with this code")
    lines.append(f"- of no class below: {_verdict(triage.UNHEARD)}")
    return "\n".join(lines)


def _sqlstates() -> str:
    """Triage's table, with the comments that explain it in the source. Raises LookupError when a row has none."""
    comments = re.findall(r'^    (?:"\w+"|[A-Z_]+): [^#]+,  # (.+)$', inspect.getsource(triage), re.MULTILINE)
    if len(comments) != len(triage.TABLE):
        raise LookupError("every row of triage.TABLE is a line with a comment")
    rows = [
        (f"`{code}`{_condition(code)}", _verdict(row), comment)
        for (code, row), comment in zip(triage.TABLE.items(), comments, strict=True)
    ]
    return table(("code", "verdict", "why"), rows)


def _condition(code: str) -> str:
    """The name of a code; a class has none."""
    try:
        return f"<br>{psycopg.errors.lookup(code[:5]).__name__}"
    except KeyError:
        return ""


def _verdict(row: triage.Verdict | triage.Until) -> str:
    if isinstance(row, triage.Until):
        return f"{_verdict(row.first)}, then {_verdict(row.then)}"
    return _VERDICTS[row][0]


_MAKERS: Mapping[str, Callable[[], str]] = {
    "settings": _settings,
    "protected_kafka_options": _protected_kafka_options,
    "commands": _commands,
    "metrics": _metrics,
    "spans": _spans,
    "attributes": _attributes,
    "letter_headers": _letter_headers,
    "verdicts": _verdicts,
    "sqlstates": _sqlstates,
    "strategies": api.strategies,
    "client": api.client,
    "receipt": api.receipt,
    "cached": api.cached_results,
    "errors": api.errors,
}
