-- The flusher's own tables. The placeholder is the schema's quoted name; it has no place in a comment, which a name may end.

-- How far a partition is flushed: everything below next_offset is in the database. owner_epoch fences: a flush must find its own.
CREATE TABLE {schema}.progress (
    topic text NOT NULL,
    partition int NOT NULL,
    topic_id text NOT NULL,
    next_offset bigint NOT NULL,
    owner_epoch bigint NOT NULL,
    owner text NOT NULL,
    claimed_at timestamptz NOT NULL,
    flushed_at timestamptz,
    PRIMARY KEY (topic, partition)
) WITH (fillfactor = 50);

-- Deletes, kept longer than any record or letter can be late, so that an older write cannot bring a row back.
CREATE TABLE {schema}.tombstone (
    entity text NOT NULL,
    key text NOT NULL,
    version bigint NOT NULL,
    deleted_at timestamptz NOT NULL,
    PRIMARY KEY (entity, key)
);

-- A field's place, from 1, in the row's array of versions; never given to another field.
CREATE TABLE {schema}.slot (
    entity text NOT NULL,
    column_name text NOT NULL,
    slot int NOT NULL CHECK (slot > 0),
    PRIMARY KEY (entity, column_name),
    UNIQUE (entity, slot)
);

-- Move the progress of a batch's partitions, or fail as fenced when one of them is not where, or not whose, the flusher thinks.
CREATE FUNCTION {schema}.advance(topics text[], partitions int[], epochs bigint[], expected bigint[], next bigint[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    moved int;
BEGIN
    UPDATE {schema}.progress AS p SET next_offset = s.next_offset, flushed_at = now()
    FROM unnest(topics, partitions, epochs, expected, next) AS s (topic, partition, epoch, expected, next_offset)
    WHERE p.topic = s.topic AND p.partition = s.partition AND p.owner_epoch = s.epoch AND p.next_offset = s.expected;
    GET DIAGNOSTICS moved = ROW_COUNT;
    IF moved <> cardinality(topics) THEN
        RAISE EXCEPTION 'fenced: % of % partitions are not as expected', cardinality(topics) - moved, cardinality(topics)
            USING ERRCODE = 'WB001';
    END IF;
END
$$;
