-- Records that were skipped because the database refused them or nobody could read them. The row is written by the transaction
-- that skips the record; the record itself is in the dead-letter topic. A letter in the topic without a row here is of a
-- flusher that ended before it skipped anything, and counts for nothing.
CREATE TABLE {schema}.letter (
    topic text NOT NULL,
    topic_id text NOT NULL,
    partition int NOT NULL,
    "offset" bigint NOT NULL,
    entity text NOT NULL,
    state text NOT NULL DEFAULT 'refused' CHECK (state IN ('refused', 'applied', 'superseded', 'discarded')),
    replay_count int NOT NULL DEFAULT 0,
    changed_at timestamptz NOT NULL DEFAULT now(),
    changed_by text NOT NULL,
    PRIMARY KEY (topic, topic_id, partition, "offset")
);
