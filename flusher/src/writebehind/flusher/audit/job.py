"""One run of the audit: the pages of a scan are compared, and what does not look right is looked at again.

Reads only, unless it was told to repair. Memory does not grow with the number of entries: a page is compared and
forgotten, and when too many suspects wait, the scan waits for them.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from writebehind.shared.declaration import Declaration

from .cache import CacheReader
from .diff import DRIFT, Row, Verdict, newest_version
from .entry import Cached, Found, Unreadable, form_of
from .letters import Skipped
from .options import Options, batches
from .repair import Repairer
from .store import Table
from .suspects import GONE, MOVED, WAIT, Group, Moment, Suspect, look, passed
from .tally import Finding, Tally
from .watermark import Watermark

PAGE_KEYS = 1_000
SUSPECTS_MAX = 20_000  # waiting at the same time; beyond that the scan waits
GROUP_S = 0.5  # suspects found within it share their ends
DRIFTED_MAX = 10_000  # remembered, so that the next run can tell what persists
IDLE_S = 0.05  # between two checks while there is nothing to do but wait


class Job:
    """Made for one run. `told` is called now and then with the number of names seen so far."""

    def __init__(
        self,
        options: Options,
        declarations: Mapping[str, Declaration],
        cache: CacheReader,
        tables: dict[str, Table],
        watermark: Watermark,
        skipped: Skipped,
        repairer: Repairer | None,
        run: int,
    ) -> None:
        self._options = options
        self._cache = cache
        self._tables = tables
        self._forms = {name: form_of(declaration) for name, declaration in declarations.items()}
        self._watermark = watermark
        self._skipped = skipped
        self._repairer = repairer
        self._run = run
        self.tallies = {name: Tally() for name in options.entities}
        self.foreign: dict[str, int] = {}  # entries of entities that are not audited, and what is no entry
        self.findings: list[Finding] = []  # not recorded yet
        self.drifted: set[tuple[str, str]] = set()
        self.seen = 0
        self._fresh: list[Suspect] = []
        self._fresh_cursor: Any = None
        self._groups: deque[Group] = deque()
        self._stalled: dict[str, Any] = {}  # by entity: its progress when waiting for it was given up
        self._began = time.monotonic()
        self.stop = threading.Event()

    def compare_all(self, pages: Iterator[tuple[Any, dict[str, list[str]]]], told: Callable[[int, Any], None]) -> None:
        """Compare pages, as (cursor before it, key texts by entity), and judge every suspect. Ends when stopped."""
        for cursor, page in pages:
            for entity, texts in page.items():
                for part in batches(texts, PAGE_KEYS):
                    self._compare(entity, part, cursor)
            self._look_again()
            while self.suspects > SUSPECTS_MAX and not self.stop.is_set():
                self._pause()
            told(self.seen, self._groups[0].cursor if self._groups else self._fresh_cursor if self._fresh else cursor)
            self._pace()
            if self.stop.is_set():
                return
        while self.suspects and not self.stop.is_set():
            self._pause()
            told(self.seen, None)

    def take_findings(self) -> list[Finding]:
        """Findings that were not taken yet."""
        taken, self.findings = self.findings, []
        return taken

    @property
    def suspects(self) -> int:
        return len(self._fresh) + sum(len(group.suspects) for group in self._groups)

    def _pause(self) -> None:
        self.stop.wait(IDLE_S)
        self._look_again(close=True)

    def _pace(self) -> None:
        """Wait until no more keys were seen than the rate allows; suspects are looked at meanwhile."""
        if not self._options.keys_per_s:
            return
        due = self._began + self.seen / self._options.keys_per_s
        while (left := due - time.monotonic()) > 0 and not self.stop.is_set():
            self.stop.wait(min(left, IDLE_S))
            self._look_again()

    # The first look

    def _compare(self, entity: str, texts: Sequence[str], cursor: Any) -> None:
        table, tally = self._tables[entity], self.tallies[entity]
        self.seen += len(texts)
        taken = [text for text in texts if self._options.takes(text, self._run)]
        tally.sampled_out += len(texts) - len(taken)
        form, keys = self._forms[entity], table.keys_of(taken)
        answers = self._cache.ask(entity, form, taken)
        asked = [key for key, answer in zip(keys, answers, strict=True) if key is not None and answer]
        rows, plainly = table.rows(asked), table.comparer.is_plainly_the_same
        odd = [
            index
            for index, (key, answer) in enumerate(zip(keys, answers, strict=True))
            if key is None or not answer or not plainly(answer, rows.get(key))
        ]
        tally.in_sync(len(taken) - len(odd))
        if self._options.from_database:  # most rows have no entry
            cached = [index for index in odd if answers[index] is None or any(answers[index] or ())]
            tally.uncached += len(odd) - len(cached)
            odd = cached
        texts = [taken[index] for index in odd]
        entries = self._cache.found(entity, form, texts, [answers[index] for index in odd])
        for index, entry in zip(odd, entries, strict=True):
            key = keys[index]
            self._second_sight(table, taken[index], key, entry, rows.get(key) if key else None, cursor)

    def _second_sight(
        self, table: Table, text: str, key: tuple[Any, ...] | None, entry: Found, row: Row | None, cursor: Any
    ) -> None:
        """Count an entry that is in sync after all, or make it a suspect."""
        entity = table.declaration.name
        if entry is None:
            self.tallies[entity].vanished += 1
            return
        seen = entry if key is not None else Unreadable("its name is no key of the entity")
        if isinstance(seen, Cached) and not seen.kept.pending and not table.comparer.differences(seen, row):
            self.tallies[entity].in_sync()
            return
        if not self._fresh:
            self._fresh_cursor = cursor
        now = time.monotonic()
        self._fresh.append(Suspect(entity, key or (), text, seen, row, now, now))

    # Further looks

    def _look_again(self, *, close: bool = False) -> None:
        now = time.monotonic()
        if self._fresh and (close or now - self._fresh[0].since >= GROUP_S or len(self._fresh) >= PAGE_KEYS):
            self._close_group()
        for group in list(self._groups):
            if group.next_look <= now:
                self._look_at(group)
        self._groups = deque(group for group in self._groups if group.suspects)

    def _close_group(self) -> None:
        """Note the ends: whatever these suspects wait for was enqueued below them, or never was."""
        group = Group(self._fresh_cursor, self._fresh)
        self._fresh = []
        group.ends = {entity: self._watermark.ends(entity) for entity in {s.entity for s in group.suspects}}
        group.noted = time.monotonic()
        group.schedule(group.noted, self._options.patience)
        self._groups.append(group)

    def _look_at(self, group: Group) -> None:
        by_entity: dict[str, list[Suspect]] = defaultdict(list)
        for suspect in group.suspects:
            by_entity[suspect.entity].append(suspect)
        group.suspects = []
        for entity, suspects in by_entity.items():
            flushed = self._is_flushed(group, entity)
            for at in range(0, len(suspects), PAGE_KEYS):
                self._look_at_part(group, entity, suspects[at : at + PAGE_KEYS], flushed=flushed)
        group.schedule(time.monotonic(), self._options.patience)

    def _is_flushed(self, group: Group, entity: str) -> bool:
        if entity in group.passed:
            return True
        progress = self._watermark.progress(entity)
        if passed(group.ends[entity], progress):
            group.passed.add(entity)
            self._stalled.pop(entity, None)
            return True
        # Nothing was flushed for as long as anybody would wait: the next suspects need not wait for it again.
        if time.monotonic() - group.noted >= self._options.patience.wait_s or self._stalled.get(entity) == progress:
            self._stalled[entity] = progress
        return False

    def _look_at_part(self, group: Group, entity: str, suspects: list[Suspect], *, flushed: bool) -> None:
        table, texts = self._tables[entity], [s.key_text for s in suspects]
        before = self._cache.read(entity, self._forms[entity], texts)
        rows = table.rows([s.key for s in suspects if s.key])
        after = self._cache.read(entity, self._forms[entity], texts)
        at = Moment(time.monotonic(), self._cache.now_us())
        patience = self._options.patience
        if entity in self._stalled:
            patience = replace(patience, wait_s=0.0)
        judged: list[tuple[Suspect, Verdict]] = []
        for suspect, first, second in zip(suspects, before, after, strict=True):
            row = rows.get(suspect.key)
            if not suspect.key and isinstance(first, Cached):
                first = second = suspect.found  # noqa: PLW2901  # whatever it holds, its name is none
            said = look(suspect, first, row, second, at, table.comparer, patience, flushed=flushed)
            if isinstance(said, Verdict):
                judged.append((suspect, said))
            elif said == WAIT:
                group.suspects.append(suspect)
            elif said == MOVED and second is not None:
                if not self._fresh:
                    self._fresh_cursor = group.cursor
                self._fresh.append(replace(suspect, found=second, row=row, since=at.now))
            elif said == GONE:
                self.tallies[entity].vanished += 1
        self._conclude(entity, judged, at)

    def _conclude(self, entity: str, judged: list[tuple[Suspect, Verdict]], at: Moment) -> None:
        """Count verdicts; pending entries that drifted may show what was refused."""
        table, tally = self._tables[entity], self.tallies[entity]
        suspicious = [
            s.key_text for s, v in judged if v in DRIFT and isinstance(s.found, Cached) and s.found.kept.pending
        ]
        letters = self._skipped.versions(entity, suspicious) if suspicious else {}
        found: list[tuple[Suspect, Finding]] = []
        for suspect, said in judged:
            verdict, entry = said, suspect.found
            if isinstance(entry, Cached) and (versions := letters.get(suspect.key_text)) and said in DRIFT:
                verdict = table.comparer.judge(entry, suspect.row, flushed=True, letters=versions)
            if verdict is Verdict.IN_SYNC:
                tally.in_sync()
            else:
                found.append((suspect, self._finding(table, suspect, verdict, at)))
        if self._repairer is not None:
            found = list(zip([s for s, _ in found], self._repairer.repair(table, found), strict=True))
        for _, finding in found:
            tally.add(finding)
            if finding.verdict is not Verdict.PENDING:
                self.findings.append(finding)
            if finding.verdict in DRIFT and len(self.drifted) < DRIFTED_MAX:
                self.drifted.add((finding.entity, finding.key_text))

    def _finding(self, table: Table, suspect: Suspect, verdict: Verdict, at: Moment) -> Finding:
        entry, row_version = suspect.found, newest_version(suspect.row)
        if isinstance(entry, Unreadable):
            return Finding(suspect.entity, suspect.key_text, verdict, (), 0, row_version, 0.0, entry.reason)
        # A row that is newer has been so since its own write; anything else at most since the entry's last.
        since = row_version if verdict is Verdict.STALE and row_version > entry.kept.version else entry.kept.version
        age_s = max(0.0, (at.cache_us - since) / 1e6)
        if table.comparer.is_direct:  # the row of a cache-aside entry tells no time, but no entry is older than this
            age_s = min(age_s, table.declaration.strategy.ttl_s)
        fields = tuple(table.comparer.differences(entry, suspect.row))
        values = table.comparer.shown(entry, suspect.row, fields) if self._options.show_values else None
        return Finding(
            suspect.entity,
            suspect.key_text,
            verdict,
            fields,
            entry.kept.version,
            row_version,
            age_s,
            values=values,
        )
