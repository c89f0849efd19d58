"""Wrongnesses to plant, each one line: where, what the line says, and what it says instead.

Most change the code that ships. Those of `simulation` change the model of a statement or a script, which says the same.
"""

from __future__ import annotations

from ..planting import Bug

FLUSHER, SHARED, PRODUCER = "writebehind.flusher.", "writebehind.shared.", "writebehind.producer."
MODEL = "tests.faults.simulation."


BUGS = (
    # The producer
    Bug(
        "acknowledged before the broker has it",
        PRODUCER + "_sync.writer",
        "Writer._enqueue",
        "self.outbox.send(write, write.record())",
        "self.outbox.send(write, write.record()); write.group.one_done()",
    ),
    Bug("refusal told as success", PRODUCER + "write", "Write.outcome", "if self.error is None:", "if True:"),
    Bug("time-out told as refusal", PRODUCER + "write", "Write.outcome", "if is_definite(self.error):", "if True:"),
    Bug(
        "refused write is not undone",
        PRODUCER + "_sync.writer",
        "Writer._take_back",
        "if write.applied is not None:",
        "if False:",
    ),
    Bug(
        "entries in doubt are trusted",
        PRODUCER + "_sync.cache",
        "Cache.run",
        "self._suspects[key] = None",
        "pass",
    ),
    # The fold
    Bug("a sum keeps one delta", SHARED + "fold", "_combine", "return exact_sum(present)", "return present[-1]"),
    Bug("a maximum keeps the last", SHARED + "fold", "_combine", "max(present) if", "present[-1] if"),
    Bug(
        "last instead of newest",
        SHARED + "fold",
        "_newest",
        "max(touching, key=operator.itemgetter(0))[0]",
        "touching[-1][0]",
    ),
    Bug("a patch writes what it leaves out", SHARED + "fold", "_newest", "if mask & bit]", "]"),
    Bug(
        "deltas older than a delete survive it",
        SHARED + "fold",
        "_fold_with_deletes",
        "if row[VERSION] > deleted]",
        "if row[MASK] != DELETE]",
    ),
    Bug(
        "tombstones are ignored",
        SHARED + "fold",
        "_fold_with_deletes",
        "deleted = max(deleted, tombstones.get(text, 0))",
        "pass",
    ),
    # The flusher
    Bug(
        "repeated offsets count again",
        FLUSHER + "loop",
        "Loop._collect",
        "if offsets != list(range(first, first + len(run))):\n        # librdkafka",
        "if False:\n        # librdkafka",
    ),
    Bug(
        "COMMIT's answer is not read",
        FLUSHER + "database",
        "_check_committed",
        'if answer.statusmessage != "COMMIT":',
        "if False:",
    ),
    Bug(
        "a failed batch is empty when tried again",
        FLUSHER + "attempt",
        "Attempts._judge",
        "verdict = self._writer.triage(batch, error)",
        "verdict = self._writer.triage(batch, error); batch.rows.clear(); self.prepare(batch)",
    ),
    Bug(
        "a failed batch counts twice when tried again",
        FLUSHER + "attempt",
        "Attempts._judge",
        "verdict = self._writer.triage(batch, error)",
        "verdict = self._writer.triage(batch, error); batch.rows += batch.rows; batch.messages += batch.messages; "
        "self.prepare(batch)",
    ),
    Bug(
        "settled before the commit",
        FLUSHER + "attempt",
        "Attempts.attempt",
        "self._settle(batch, self._write(batch))",
        "self._settle(batch, batch.folded or fold(self._declaration, batch.rows)); self._writer.write(batch)",
    ),
    Bug(
        "seeks past the stored offset",
        FLUSHER + "membership",
        "Membership._seek",
        "TopicPartition(*place, offset)",
        "TopicPartition(*place, offset + 1)",
    ),
    Bug(
        "letters are not awaited",
        FLUSHER + "letterbox",
        "Letterbox._post",
        "while len(answers) < len(drafts):",
        "while False:",
    ),
    Bug(
        "skipped without a letter", FLUSHER + "attempt", "Attempts._post_letters", "batch.letters[batch.posted :]", "[]"
    ),
    Bug(
        "skipped before the letter is safe",
        FLUSHER + "attempt",
        "Attempts._write_parts",
        "self._post_letters(batch, HOLD_S)",
        "pass",
    ),
    Bug(
        "no row for a letter",
        FLUSHER + "database",
        "Writer._record_letters",
        "connection.execute(self._skip, params, prepare=False)",
        "pass",
    ),
    Bug("one bad record drops its batch", FLUSHER + "batch", "Batch.refuse", "if index not in causes]", "if False]"),
    Bug(
        "refused values stay in the cache",
        FLUSHER + "attempt",
        "Attempts._settle",
        "if batch.letters else None",
        "if False else None",
    ),
    Bug(
        "what a dead flusher did not settle is trusted",
        FLUSHER + "claims",
        "Claims._take",
        "max(settled, logs[topic, n].start)",
        "next_",
    ),
    Bug(
        "settled is said before the cache knows", FLUSHER + "settle", "Settler._step", "if not self.unsure:", "if True:"
    ),
    Bug(
        "a settlement that failed is forgotten",
        FLUSHER + "settle",
        "Settler._step",
        "self._failed.append(committed.versions)",
        "pass",
    ),
    # What advance() and MERGE do
    Bug("no epoch check", MODEL + "database", "may_advance", "known.epoch == epoch and ", ""),
    Bug("no offset check", MODEL + "database", "may_advance", " and known.next_offset == expected", ""),
    Bug("a claim does not fence", MODEL + "database", "raised", "known.epoch + 1", "known.epoch"),
    Bug("no version guard", MODEL + "table", "is_newer", "new > (slot or 0)", "True"),
    # What the scripts do
    Bug(
        "settle ignores generations",
        MODEL + "cache_settles",
        "same_generation",
        'generation != 0 and int(entry["#g"]) == generation',
        "True",
    ),
    Bug(
        "what is newer than the row is forgotten",
        MODEL + "cache_settles",
        "holds_nothing_newer",
        'int(entry.get("#v", 0)) <= version',
        "True",
    ),
    Bug(
        "an entry in doubt is deleted with what is pending",
        MODEL + "cache_settles",
        "doubt",
        'if holds_nothing_newer(entry, version) or "#p" not in entry:',
        "if True:",
    ),
    Bug(
        "a doubt does not begin a generation",
        MODEL + "cache_settles",
        "begin_anew",
        '"#g": str(int(entry["#v"]) + 1)',
        '"#g": entry["#g"]',
    ),
    Bug(
        "sums outlive a doubt",
        MODEL + "cache_settles",
        "begin_anew",
        'if name[0] == "+" or name == "#l"',
        'if name == "#l"',
    ),
    Bug(
        "any record ends a doubt",
        MODEL + "cache_settles",
        "is_released_by",
        ' and int(entry["#g"]) <= version + 1',
        "",
    ),
    Bug(
        "a doubt has no end",
        MODEL + "cache_settles",
        "is_released_by",
        'int(entry["#g"]) <= version + 1',
        "False",
    ),
    Bug(
        "a refusal does not end a doubt",
        MODEL + "cache_settles",
        "undo",
        "if refused and is_released_by(entry, version):",
        "if False:",
    ),
    Bug("settle ignores counts", MODEL + "cache_settles", "lowered", "pending - count", "0"),
    Bug(
        "undo drops a newer value",
        MODEL + "cache_settles",
        "undo_fields",
        'if entry.get("~" + name) == version:',
        "if True:",
    ),
    Bug("heal forgets an undo", MODEL + "cache_settles", "heal", ' and entry["#x"] == "1"', ""),
    Bug("a pending entry expires", MODEL + "cache_writes", "_Write.store", "self.cache.expires.pop(key, None)", "pass"),
    Bug(
        "a fill overwrites what is pending", MODEL + "cache_writes", "_fill_field", "if name not in entry:", "if True:"
    ),
)
