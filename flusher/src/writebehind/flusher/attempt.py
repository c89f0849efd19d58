"""One batch's way into the database: write it, and when that fails decide what the failure means and act on it."""

from __future__ import annotations

import contextlib
import logging
import struct
import threading
import time
from collections import Counter

import psycopg
from confluent_kafka import KafkaException

from writebehind.shared import naming
from writebehind.shared.fold import Folded, fold
from writebehind.shared.record import KEYS

from .batch import Batch
from .database import Writer
from .letterbox import POST_TIMEOUT_S, Draft, Letterbox, NotPosted, now, refused
from .measures import Measures
from .settle import Committed, Refused, Settler
from .triage import Verdict

log = logging.getLogger("writebehind.flusher")

HOLD_S = 2.0  # longest wait for the broker with rows locked; the next attempt writes the letters before it locks any
REMIND_S = 60.0  # how often trouble that lasts is reported again


class Again(Exception):
    """The attempt failed for a reason that passes. `systemic`: only when somebody mends the table or a privilege."""

    def __init__(self, *, systemic: bool = False) -> None:
        self.systemic = systemic
        super().__init__()


class Attempts:
    """Attempts to write batches. Used by one lane's thread; `prepare` by the loop's as well."""

    def __init__(
        self,
        topic: str,
        writer: Writer,
        settler: Settler,
        letterbox: Letterbox,
        measures: Measures,
        stopping: threading.Event,
    ) -> None:
        self._declaration = writer.declaration
        self._topic = topic
        self._writer = writer
        self._settler = settler
        self._letterbox = letterbox
        self._measures = measures
        self._stopping = stopping
        self.trouble: str | None = None  # what was reported last, and when: not with every attempt
        self._told_at = 0.0

    def prepare(self, batch: Batch) -> None:
        """Fold and pack, which the loop does while the lane's batch before is in the database."""
        if self._declaration.write_behind.deletes:
            return  # folded inside the transaction, with its tombstones
        batch.folded = fold(self._declaration, batch.rows)
        with contextlib.suppress(psycopg.Error, ValueError, OverflowError, struct.error):
            # A value without an encoding: writing meets the same error, and finds out which record it is.
            batch.packed = self._writer.pack(batch.folded)

    def attempt(self, batch: Batch) -> Verdict | None:
        """Write a batch. Returns None when it is committed, FENCED when it is not ours to write. Raises Again.

        Any other error is one that nobody understands, and is raised as it came.
        """
        try:
            if not self._same_topic(batch):
                return Verdict.FENCED
            self._settler.heal()
            self._post_letters(batch, POST_TIMEOUT_S)
            self._settle(batch, self._write(batch))
        except Exception as error:  # noqa: BLE001  # what is not understood is raised again
            verdict = self._judge(batch, error)
        else:
            return None
        if verdict is None or not self._was_committed(batch):
            return verdict
        # What there is to settle does not depend on the tombstones that the lost attempt was folded with.
        self._settle(batch, batch.folded or fold(self._declaration, batch.rows))
        return None

    def _write(self, batch: Batch) -> Folded:
        if batch.folded is None:
            self.prepare(batch)  # an attempt before this one has made letters of some records
        with self._measures.attempt(self._declaration):
            return self._writer.write(batch, self._settler.settled)

    def _write_parts(self, batch: Batch) -> Folded:
        """Write all of a refused batch but the records at fault, which become letters."""
        batch.first_failed_at = batch.first_failed_at or now()
        batch.attempts += 1
        with self._measures.attempt(self._declaration):
            errors = self._writer.write_parts(batch, self._settler.settled)
            if errors:
                batch.refuse(
                    {
                        index: refused(error, attempts=batch.attempts, first_failed_at=batch.first_failed_at)
                        for index, error in errors.items()
                    }
                )
                self._post_letters(batch, HOLD_S)
            self._writer.commit_parts(batch)
        return fold(self._declaration, batch.rows)

    def _judge(self, batch: Batch, error: BaseException) -> Verdict | None:
        """None: the data was at fault, and all the rest is committed. FENCED: see whether it was committed before."""
        verdict = self._writer.triage(batch, error)
        if verdict is Verdict.POISON:
            try:
                self._settle(batch, self._write_parts(batch))
            except Exception as second:  # noqa: BLE001  # judged like the first
                error, verdict = second, self._writer.triage(batch, second)
            else:
                return None
        self._writer.disconnect()
        if verdict in (Verdict.TRANSIENT, Verdict.SYSTEMIC):
            self._report(verdict, error)
            raise Again(systemic=verdict is Verdict.SYSTEMIC) from error
        if verdict is not Verdict.FENCED:
            raise error
        return verdict

    def _post_letters(self, batch: Batch, timeout_s: float) -> None:
        drafts = batch.letters[batch.posted :]
        if not drafts:
            return
        self._letterbox.post(self._declaration, self._topic, batch.topic_id, drafts, self._stopping, timeout_s)
        batch.posted = len(batch.letters)
        reasons = Counter(draft.cause.sqlstate or draft.cause.exception.rpartition(".")[2] for draft in drafts)
        log.error(
            "%s: %d records go to %s (%s)",
            self._topic,
            len(drafts),
            naming.dead_letter_topic(self._topic),
            ", ".join(f"{reason}: {count}" for reason, count in reasons.most_common()),
        )

    def _settle(self, batch: Batch, folded: Folded) -> None:
        self.trouble = None
        self._measures.committed(batch, folded.rows + len(folded.deletes))
        refused = self._refused(batch) if batch.letters else None
        self._settler.put(Committed(list(batch.spans.values()), folded.settlement, refused))

    def _refused(self, batch: Batch) -> Refused:
        declaration = self._declaration
        keys = [declaration.key_text(row[KEYS : KEYS + len(declaration.keys)]) for row in batch.refused]
        unreadable = [key.decode(errors="replace") for key in map(_unread_key, batch.letters) if key is not None]
        return Refused(keys, batch.refused, unreadable)

    def _same_topic(self, batch: Batch) -> bool:
        try:
            return batch.same_topic is None or batch.same_topic()
        except KafkaException as error:
            raise NotPosted(error.args[0].name()) from error

    def _was_committed(self, batch: Batch) -> bool:
        """Whether an earlier attempt did commit, and only the answer to its COMMIT was lost."""
        try:
            return self._writer.committed(batch)
        except (psycopg.Error, OSError) as error:
            # Ask once more: the next attempt is fenced again. Given up here, a batch that is committed would
            # never be settled.
            self._writer.disconnect()
            self._report(Verdict.TRANSIENT, error)
            raise Again from error

    def _report(self, verdict: Verdict, error: BaseException) -> None:
        what = str(error) if isinstance(error, NotPosted) else getattr(error, "sqlstate", None) or type(error).__name__
        self._measures.retry(self._topic, "broker" if isinstance(error, NotPosted) else verdict)
        if what == self.trouble and time.monotonic() < self._told_at + REMIND_S:
            return
        self.trouble, self._told_at = what, time.monotonic()
        if verdict is Verdict.SYSTEMIC:
            log.error(
                "%s: the database refuses every batch (%s). Nothing is lost or skipped: mend it, and it goes on",
                self._topic,
                what,
            )
        elif isinstance(error, NotPosted):
            log.warning("%s: the broker does not take or tell what it has to (%s); trying again", self._topic, what)
        else:
            log.warning("%s: the database is not available (%s); trying again", self._topic, what)


def _unread_key(draft: Draft) -> bytes | None:
    return draft.message.key() if draft.version is None else None
