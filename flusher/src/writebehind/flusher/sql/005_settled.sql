-- How far the cache knows: below settled_offset everything was settled, or its entries were dropped. NULL: as far as next_offset.
-- The next owner of a partition doubts the entries of what lies between: their flusher may have died before it settled them.
ALTER TABLE {schema}.progress ADD COLUMN settled_offset bigint;

-- advance() that also says how far the cache knows; a NULL in `settled` leaves that as it was.
CREATE FUNCTION {schema}.advance(
    topics text[], partitions int[], epochs bigint[], expected bigint[], next bigint[], settled bigint[]
) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    moved int;
BEGIN
    UPDATE {schema}.progress AS p
    SET next_offset = s.next_offset, flushed_at = now(),
        settled_offset = COALESCE(s.settled_offset, p.settled_offset, p.next_offset)
    FROM unnest(topics, partitions, epochs, expected, next, settled)
        AS s (topic, partition, epoch, expected, next_offset, settled_offset)
    WHERE p.topic = s.topic AND p.partition = s.partition AND p.owner_epoch = s.epoch AND p.next_offset = s.expected;
    GET DIAGNOSTICS moved = ROW_COUNT;
    IF moved <> cardinality(topics) THEN
        RAISE EXCEPTION 'fenced: % of % partitions are not as expected', cardinality(topics) - moved, cardinality(topics)
            USING ERRCODE = 'WB001';
    END IF;
END
$$;

-- For flushers of before this column: they do not say how far the cache knows.
CREATE OR REPLACE FUNCTION {schema}.advance(topics text[], partitions int[], epochs bigint[], expected bigint[], next bigint[]) RETURNS void
LANGUAGE sql AS $$ SELECT {schema}.advance(topics, partitions, epochs, expected, next, next) $$;
