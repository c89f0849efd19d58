-- What changes rows of a table by itself: row triggers that run before a write and may change it, and foreign keys whose
-- action writes or deletes. A row each: kind, name, what it does.
-- Parameters: schema, table.
WITH target AS (
    SELECT c.oid
    FROM pg_catalog.pg_class AS c
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = %(schema)s AND c.relname = %(table)s
)
SELECT
    'trigger' AS kind,
    t.tgname AS name,
    -- tgtype is a set of bits: 1 row, 2 before, 4 insert, 16 update.
    'may change rows before '
        || concat_ws(' and ', CASE WHEN t.tgtype & 4 > 0 THEN 'INSERT' END, CASE WHEN t.tgtype & 16 > 0 THEN 'UPDATE' END) AS does
FROM pg_catalog.pg_trigger AS t
JOIN target ON t.tgrelid = target.oid
WHERE NOT t.tgisinternal AND t.tgenabled <> 'D' AND t.tgtype & 3 = 3 AND t.tgtype & 20 > 0
UNION ALL
SELECT
    'foreign key',
    k.conname,
    concat_ws(
        ', ',
        CASE k.confdeltype WHEN 'c' THEN 'deletes rows with the row they point to'
            WHEN 'n' THEN 'sets columns to NULL when the row they point to is deleted'
            WHEN 'd' THEN 'sets columns to their default when the row they point to is deleted' END,
        CASE WHEN k.confupdtype IN ('c', 'n', 'd') THEN 'changes columns with the key they point to' END
    )
FROM pg_catalog.pg_constraint AS k
JOIN target ON k.conrelid = target.oid
WHERE k.contype = 'f' AND (k.confdeltype IN ('c', 'n', 'd') OR k.confupdtype IN ('c', 'n', 'd'))
ORDER BY 1, 2
