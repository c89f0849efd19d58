"""The workloads: what each one writes, and how. All use the public producer API alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from tests.faults.auditing import AUDIT, PLANT
from tests.faults.crew import AUDITOR
from tests.faults.driver import Driver
from tests.faults.replays import REPLAY
from tests.faults.workloads import appeals, direct, keyed, rows

WORKLOADS: Final[Mapping[str, Callable[[Driver], Awaitable[None]]]] = {
    "set": rows.unique_rows,  # W1
    "register": keyed.register,  # W2
    "counter": keyed.counter,  # W3
    "bank": keyed.bank,  # W4
    "patches": rows.patches,  # W5
    "churn": rows.churn,  # W6
    "poison": rows.poison,  # W7
    "coherence": keyed.coherence,  # W8
    "aside": direct.aside,  # W9
    "through": direct.through,  # W10
    "appeals": appeals.appeals,  # W11
}

DIRECT: Final = ("write", "make", "increment", "create", "put", "delete")
#: What each one does; a run in which one of these never succeeded proves nothing.
KINDS: Final[Mapping[str, tuple[str, ...]]] = {
    "set": ("set", "set many"),
    "register": ("write", "write many"),
    "counter": ("increment",),
    "bank": ("transfer",),
    "patches": ("patch",),
    "churn": ("put", "delete"),
    "poison": ("grade", "poison"),
    "coherence": ("step",),
    "aside": DIRECT,
    "through": DIRECT,
    "appeals": (*appeals.WRITES, REPLAY),
    AUDITOR: (AUDIT, PLANT),
}
