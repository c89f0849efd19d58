"""The faults that hit the network between a flusher, or all producers, and a server. Each leaves all as it was."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from tests.faults.faults_servers import Injector
from tests.faults.fleet import Slot
from tests.faults.flow import CHUNK_BYTES
from tests.faults.proxy import Moment
from tests.faults.schedule import Planned
from tests.faults.stage import Missed, Stage

TRAP_TIMEOUT_S: Final = 12.0  # a flusher that was just started has to get partitions first


def spring(
    stage: Stage,
    slot: Slot,
    server: str,
    request: str,
    moment: Moment,
    action: Callable[[], object],
    *,
    cut: bool = True,
) -> None:
    """Wait until a flusher runs into a trap. Raises Missed."""
    trap = slot.proxies[server].trap(request, moment, action, cut=cut)
    for _ in range(int(TRAP_TIMEOUT_S / 0.1)):
        if trap.hit.wait(0.1) or stage.stopping.is_set():
            return
    slot.proxies[server].release(trap)
    if not trap.hit.wait(1.0):  # it may have been sprung a moment before
        raise Missed(f"no {request} of flusher {slot.number} within {TRAP_TIMEOUT_S:g} s")


def reply_cut(stage: Stage, planned: Planned) -> str:
    """F8: the server has done it, and its answer is lost with the connection."""
    request = planned.variant.what
    server = "cache" if request == "EVALSHA" else "database"
    spring(stage, stage.slot(planned), server, request, Moment.BEFORE_REPLY, bool)
    return ""


def replies_lost(stage: Stage, planned: Planned) -> str:
    """F8: what arrives is done, and no answer comes back before the connections are cut."""
    proxy = stage.proxy(planned)
    proxy.to_client.stall()
    try:
        stage.wait(planned.seconds)
        proxy.reset()
    finally:
        proxy.to_client.flow()
    return ""


def reset(stage: Stage, planned: Planned) -> str:
    """F8: connections end with a RST, and those that replace them as well."""
    proxy = stage.proxy(planned)
    for _ in range(4):
        proxy.reset()
        stage.wait(0.4)
    return ""


def black_hole(stage: Stage, planned: Planned) -> str:
    """F8: connections stay open and nothing comes through; at the end they are cut, or go on, in turn."""
    proxy = stage.proxy(planned)
    flows = proxy.to_server, proxy.to_client
    cut = planned.number % 2 == 0
    for flow in flows:
        flow.stall()
    try:
        stage.wait(planned.seconds)
        if cut:
            proxy.reset()
    finally:
        for flow in flows:
            flow.flow()
    return "then cut" if cut else "then it went on"


def delay(stage: Stage, planned: Planned) -> str:
    """F8: every piece comes late."""
    return _slowed(stage, planned, delay_s=0.03, slice_bytes=CHUNK_BYTES)


def slices(stage: Stage, planned: Planned) -> str:
    """F8: packets of a few bytes."""
    return _slowed(stage, planned, delay_s=0.0001, slice_bytes=100)


def _slowed(stage: Stage, planned: Planned, *, delay_s: float, slice_bytes: int) -> str:
    proxy = stage.proxy(planned)
    flows = proxy.to_server, proxy.to_client
    for flow in flows:
        flow.delay_s, flow.slice_bytes = delay_s, slice_bytes
    try:
        stage.wait(planned.seconds)
    finally:
        for flow in flows:
            flow.delay_s, flow.slice_bytes = 0.0, CHUNK_BYTES
    return ""


INJECTORS: Final[Mapping[tuple[str, str], Injector]] = {
    ("F8", "reset"): reset,
    ("F8", "black hole"): black_hole,
    ("F8", "delay"): delay,
    ("F8", "slices"): slices,
    ("F8", "reply cut"): reply_cut,
    ("F8", "replies lost"): replies_lost,
}
