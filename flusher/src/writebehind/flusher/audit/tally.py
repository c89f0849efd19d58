"""What an audit counts of one entity. Pure; kept as JSON in `writebehind.audit_run`, so that a run can go on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .diff import DRIFT, Verdict

WINDOWS_MIN = (1, 5, 10)
EXAMPLES_MAX = 10  # of each verdict
AGES_S = (60, 300, 600, 3600, 86_400)  # upper ends of the ages in which drift is counted; older comes last


@dataclass(frozen=True, slots=True)
class Finding:
    """One entry that is not in sync. Versions are 0 where there are none; `age_s` is how old the difference can be."""

    entity: str
    key_text: str
    verdict: Verdict
    fields: tuple[str, ...]
    entry_version: int
    row_version: int
    age_s: float
    reason: str = ""
    repair: str | None = None  # what was done, or would be
    values: dict[str, list[str | None]] | None = None  # by field: the entry's, the row's; only when asked for

    def as_json(self) -> dict[str, Any]:
        """The stable JSON form."""
        values = {} if self.values is None else {"values": self.values}
        return {
            "entity": self.entity,
            "key": self.key_text,
            "verdict": self.verdict,
            "fields": list(self.fields),
            "entry_version": self.entry_version,
            "row_version": self.row_version,
            "age_s": round(self.age_s, 1),
            "reason": self.reason or None,
            "repair": self.repair,
            **values,
        }


@dataclass
class Tally:
    """Counts of one entity. `vanished`: entries that were gone at the second look; `sampled_out`: never compared."""

    verdicts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(Verdict, 0))
    vanished: int = 0
    sampled_out: int = 0
    uncached: int = 0  # rows without an entry, when the audit goes from the database
    older: dict[str, int] = field(default_factory=lambda: {str(m): 0 for m in WINDOWS_MIN})
    ages: list[int] = field(default_factory=lambda: [0] * (len(AGES_S) + 1))
    repairs: dict[str, int] = field(default_factory=dict)
    examples: list[dict[str, Any]] = field(default_factory=list)

    @property
    def compared(self) -> int:
        """Entries that have a verdict."""
        return sum(self.verdicts.values())

    @property
    def drift(self) -> int:
        """Entries that show what the row does not hold, for sure."""
        return sum(self.verdicts[verdict] for verdict in DRIFT)

    @property
    def is_clean(self) -> bool:
        """Whether everything that is cached was compared, nothing is wrong, and no write has waited for a minute."""
        return not (self.drift or self.sampled_out or self.verdicts[Verdict.UNREADABLE] or self.older["1"])

    def in_sync(self, count: int = 1) -> None:
        self.verdicts[Verdict.IN_SYNC] += count

    def add(self, finding: Finding) -> None:
        """Count an entry that is not in sync."""
        self.verdicts[finding.verdict] += 1
        if finding.repair is not None:
            self.repairs[finding.repair] = self.repairs.get(finding.repair, 0) + 1
        if finding.verdict in (*DRIFT, Verdict.PENDING):
            for minutes in WINDOWS_MIN:
                self.older[str(minutes)] += finding.age_s > 60 * minutes
        if finding.verdict in DRIFT:
            self.ages[sum(finding.age_s > end for end in AGES_S)] += 1
        shown = sum(example["verdict"] == finding.verdict for example in self.examples)
        if shown < EXAMPLES_MAX and finding.verdict is not Verdict.PENDING:
            self.examples.append(finding.as_json())

    def nines(self) -> dict[str, dict[str, Any]]:
        """Per window in minutes: how many entries were consistent within it, and the nines of that share.

        None: all were, which says no more than that there are at least log10(of) nines.
        """
        of = self.compared
        return {
            minutes: {
                "consistent": of - bad,
                "of": of,
                "nines": round(-math.log10(bad / of), 2) if bad else None,
            }
            for minutes, bad in self.older.items()
        }

    def as_json(self, *, values: bool = False) -> dict[str, Any]:
        """The stable JSON form. `values`: also those of examples, which are never kept."""
        return {
            "compared": self.compared,
            "drift": self.drift,
            "verdicts": {str(name): count for name, count in self.verdicts.items()},
            "nines": self.nines(),
            "drift_by_age_s": {
                **{f"<={end}": count for end, count in zip(AGES_S, self.ages, strict=False)},
                f">{AGES_S[-1]}": self.ages[-1],
            },
            "coverage": {"vanished": self.vanished, "sampled_out": self.sampled_out, "uncached_rows": self.uncached},
            "repairs": self.repairs,
            "examples": [
                {name: part for name, part in example.items() if values or name != "values"}
                for example in self.examples
            ],
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Tally:
        """The other way round."""
        coverage = told["coverage"]
        return cls(
            {Verdict(name): count for name, count in told["verdicts"].items()},
            coverage["vanished"],
            coverage["sampled_out"],
            coverage["uncached_rows"],
            {m: window["of"] - window["consistent"] for m, window in told["nines"].items()},
            list(told["drift_by_age_s"].values()),
            dict(told["repairs"]),
            list(told["examples"]),
        )
