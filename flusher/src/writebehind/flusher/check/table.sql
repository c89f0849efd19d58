-- What a table does to writes of some of its columns: indexes on them, room on its pages, constraints that may refuse rows.
-- A row each: kind, name, columns or definition. Parameters: schema, table, columns (those written), key (columns of the key).
WITH target AS (
    SELECT c.oid, c.reloptions
    FROM pg_catalog.pg_class AS c
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = %(schema)s AND c.relname = %(table)s
)
SELECT 'index' AS kind, c.relname AS name, i.indisunique::text AS detail
FROM pg_catalog.pg_index AS i
JOIN target ON i.indrelid = target.oid
JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid
WHERE EXISTS (
    SELECT FROM pg_catalog.pg_attribute AS a
    WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey) AND a.attname = ANY (%(columns)s)
)
UNION ALL
SELECT 'constraint', k.conname, pg_catalog.pg_get_constraintdef(k.oid)
FROM pg_catalog.pg_constraint AS k
JOIN target ON k.conrelid = target.oid
WHERE k.contype IN ('c', 'f', 'x') AND EXISTS (
    SELECT FROM pg_catalog.pg_attribute AS a
    WHERE a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey) AND a.attname = ANY (%(columns)s)
)
UNION ALL
SELECT 'fillfactor', '', COALESCE(
    (SELECT o.option_value FROM pg_catalog.pg_options_to_table(target.reloptions) AS o WHERE o.option_name = 'fillfactor'), '100'
)
FROM target
ORDER BY 1, 2
