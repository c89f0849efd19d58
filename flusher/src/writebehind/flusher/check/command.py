"""What `writebehind check` does, once its options are read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from writebehind.shared.errors import ConfigurationError
from writebehind.shared.registry import Registry
from writebehind.shared.settings import Settings

from ..grants.roles import Role, default_name
from . import cache, database, kafka, lag
from .finding import Finding, Result, Severity, warning

Looked = tuple[list[Finding], dict[str, Any]]


def check(settings: Settings, registry: Registry, role: Role) -> Result:
    """Look at every server, whatever the others say."""
    user = settings.kafka.options.get("sasl.username")
    principal = user.get_secret_value() if user is not None else default_name(role)
    looks: dict[str, Callable[[], Looked]] = {
        database.SERVER: lambda: database.look(settings, registry, role),
        kafka.SERVER: lambda: kafka.look(settings, registry, role, principal),
    }
    if role is not Role.MIGRATOR:
        looks[cache.SERVER] = lambda: cache.look(settings, role)
    found, facts, unchecked = list(_transport(settings)), list[tuple[str, str, Any]](), list[tuple[str, str]]()
    for server, look in looks.items():
        try:
            more, said = look()
        except ConfigurationError as problem:
            unchecked.append((server, str(problem)))
            continue
        found += more
        facts += [(server, name, value) for name, value in said.items()]
    if role in lag.READERS and {database.SERVER, kafka.SERVER}.isdisjoint(dict(unchecked)):
        try:
            found += lag.look(settings, registry, role)
        except ConfigurationError as problem:
            wrong = {one.server for one in found if one.severity is Severity.ERROR}
            if wrong.isdisjoint({database.SERVER, kafka.SERVER}):  # else that is in the way, and is told
                unchecked.append((kafka.SERVER, f"what is not flushed yet: {problem}"))
    order = list(Severity)
    return Result(sorted(found, key=lambda one: order.index(one.severity)), unchecked, facts)


def _transport(settings: Settings) -> Iterable[Finding]:
    for weak in settings.weaknesses():
        why = "who reads the network reads values and passwords, or passes for the server"
        yield warning(weak.server, f"{weak.what} ({weak.variable})", why, weak.do)


def told(facts: Iterable[tuple[str, str, Any]]) -> list[str]:
    """What the servers said of themselves, a line for each. Pure."""
    words: dict[str, list[str]] = {}
    for server, name, value in facts:
        said = "none" if value is None else ("no", "yes")[value] if isinstance(value, bool) else value
        words.setdefault(server, []).append(f"{name} {said}")
    return [f"{server}: {', '.join(each)}" for server, each in words.items()]


def show(result: Result, *, as_json: bool) -> None:
    """Print it."""
    if as_json:
        facts: dict[str, dict[str, Any]] = {}
        for server, name, value in result.facts:
            facts.setdefault(server, {})[name] = value
        findings = [
            {"severity": str(f.severity), "server": f.server, "what": f.what, "why": f.why, "fix": f.fix}
            for f in result.findings
        ]
        unchecked = [{"server": server, "reason": reason} for server, reason in result.unchecked]
        print(json.dumps({"findings": findings, "unchecked": unchecked, "facts": facts}))
        return
    for line in told(result.facts):
        print(line)
    for server, reason in result.unchecked:
        print(f"not checked: {server}: {reason}")
    for one in result.findings:
        print(f"{one.severity}: {one.server}: {one.what}\n    why: {one.why}\n    to mend it: {one.fix}")
    errors = sum(one.severity is Severity.ERROR for one in result.findings)
    print(f"{errors} to mend, {len(result.findings) - errors} to think about, {len(result.unchecked)} not checked")
