"""The faults that hit flushers: kills, zombies, company, signals. Each leaves all as it was.

An injector blocks while the fault lasts and gives a note for the timeline.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from typing import Final

from tests.faults import faults_network, faults_servers
from tests.faults.faults_network import spring
from tests.faults.faults_servers import Injector
from tests.faults.fleet import STOP_TIMEOUT_S, Slot
from tests.faults.proxy import Moment
from tests.faults.schedule import POINTS, Planned
from tests.faults.stage import Stage

_DOWN_S: Final = 1.0  # how long a killed flusher stays away


def inject(stage: Stage, planned: Planned) -> str:
    """Carry out a fault. Raises Missed or NotPossible."""
    return INJECTORS[planned.variant.family, planned.variant.name](stage, planned)


def kill(stage: Stage, planned: Planned) -> str:
    """F1: at no moment in particular."""
    slot = stage.slot(planned)
    slot.kill()
    stage.wait(_DOWN_S)
    slot.start()
    return ""


def kill_writer(stage: Stage, planned: Planned) -> str:
    """F1: one that writes rows itself, between cache, row and cache."""
    member, start_another = stage.crew.kill(int(planned.variant.what))
    stage.wait(_DOWN_S)
    start_another()
    return f"{member.name}-{member.index}"


def kill_at_point(stage: Stage, planned: Planned) -> str:
    """F2: exactly there."""
    slot = stage.slot(planned)
    server, request, moment = POINTS[int(planned.variant.what)]
    spring(stage, slot, server, request, moment, slot.kill)
    stage.wait(_DOWN_S)
    slot.start()
    return f"{request}: {moment}"


def zombie(stage: Stage, planned: Planned) -> str:
    """F3: suspended for longer than its session lasts; then it goes on as if nothing had been."""
    slot = stage.slot(planned)
    slot.signal(signal.SIGSTOP)
    try:
        stage.wait(planned.seconds)
    finally:
        slot.signal(signal.SIGCONT)
    return ""


def join_and_leave(stage: Stage, planned: Planned) -> str:
    """F12: a third flusher comes, gets partitions, and leaves."""
    stage.fleet.extra.start()
    stage.fleet.extra.wait_begun()
    stage.wait(planned.seconds)
    return _stop(stage, stage.fleet.extra)


def terminate(stage: Stage, planned: Planned) -> str:
    """F16: SIGTERM must end it with 0 within its time, whatever it does."""
    slot = stage.slot(planned)
    try:
        return _TERMINATE[planned.variant.what](stage, slot)
    finally:
        slot.start()


def _consuming(stage: Stage, slot: Slot) -> str:
    return _stop(stage, slot)


def _in_statement(stage: Stage, slot: Slot) -> str:
    """The answer to a statement is held back until the flusher is gone."""
    proxy = slot.proxies["database"]
    spring(stage, slot, "database", "MERGE", Moment.AFTER_REQUEST, proxy.to_client.stall, cut=False)
    try:
        return _stop(stage, slot)
    finally:
        proxy.to_client.flow()


def _backing_off(stage: Stage, slot: Slot) -> str:
    proxy = slot.proxies["database"]
    proxy.refusing = True
    try:
        proxy.reset()
        stage.wait(1.5)
        return _stop(stage, slot)
    finally:
        proxy.refusing = False


def _in_black_hole(stage: Stage, slot: Slot) -> str:
    flows = [flow for proxy in slot.proxies.values() for flow in (proxy.to_server, proxy.to_client)]
    for flow in flows:
        flow.stall()
    try:
        stage.wait(1.0)
        return _stop(stage, slot)
    finally:
        for flow in flows:
            flow.flow()


def _broker_stopped(stage: Stage, slot: Slot) -> str:
    stage.world.stack.kafka.pause()
    try:
        stage.wait(1.0)
        return _stop(stage, slot)
    finally:
        stage.world.stack.kafka.resume()


def _stop(stage: Stage, slot: Slot) -> str:
    took_s, code = slot.stop()
    if code != 0 or took_s > STOP_TIMEOUT_S:
        stage.broken.append(f"SIGTERM: flusher {slot.number} ended with {code} after {took_s:.1f} s")
    return f"ended with {code} after {took_s:.1f} s"


_TERMINATE: Final[Mapping[str, Callable[[Stage, Slot], str]]] = {
    "consuming": _consuming,
    "in a statement": _in_statement,
    "backing off": _backing_off,
    "black hole": _in_black_hole,
    "broker stopped": _broker_stopped,
}

INJECTORS: Final[Mapping[tuple[str, str], Injector]] = {
    ("F1", "kill -9"): kill,
    ("F1", "kill -9 of a writer"): kill_writer,
    ("F2", "kill -9 at a point"): kill_at_point,
    ("F3", "zombie"): zombie,
    ("F12", "joins and leaves"): join_and_leave,
    ("F16", "SIGTERM"): terminate,
    **faults_network.INJECTORS,
    **faults_servers.INJECTORS,
}
