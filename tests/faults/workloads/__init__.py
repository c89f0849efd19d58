"""The workloads: what each one writes, and how. All use the public producer API alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from tests.faults.driver import Driver
from tests.faults.workloads import keyed, rows

WORKLOADS: Final[Mapping[str, Callable[[Driver], Awaitable[None]]]] = {
    "set": rows.unique_rows,  # W1
    "register": keyed.register,  # W2
    "counter": keyed.counter,  # W3
    "bank": keyed.bank,  # W4
    "patches": rows.patches,  # W5
    "churn": rows.churn,  # W6
    "poison": rows.poison,  # W7
    "coherence": keyed.coherence,  # W8
}
