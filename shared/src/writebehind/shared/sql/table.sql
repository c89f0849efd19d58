-- What the catalog says of one table: a row per column, with the table's unique keys repeated on each: their columns, and
-- the schema and name of their index. A partitioned index is listed with those of its partitions, which errors name.
-- Parameters: schema (or NULL: the search_path decides), table.
WITH target AS (
    SELECT c.oid, n.nspname, c.relname
    FROM pg_catalog.pg_class AS c
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relname = %(table)s AND c.relkind IN ('r', 'p')
      AND CASE WHEN %(schema)s::text IS NULL THEN pg_catalog.pg_table_is_visible(c.oid) ELSE n.nspname = %(schema)s::text END
),
keys AS (
    SELECT json_agg(json_build_array(k.columns, k.indexes)) AS keys
    FROM (
        SELECT (
            SELECT json_agg(a.attname ORDER BY a.attname)
            FROM pg_catalog.pg_attribute AS a
            WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey[0:i.indnkeyatts - 1])
        ) AS columns, (
            SELECT json_agg(json_build_array(n.nspname, c.relname))
            FROM (SELECT i.indexrelid AS oid UNION SELECT relid FROM pg_catalog.pg_partition_tree(i.indexrelid)) AS one
            JOIN pg_catalog.pg_class AS c ON c.oid = one.oid
            JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
        ) AS indexes
        FROM pg_catalog.pg_index AS i
        JOIN target ON i.indrelid = target.oid
        WHERE i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL AND i.indimmediate
    ) AS k
)
SELECT
    target.nspname AS schema,
    target.relname AS "table",
    a.attname AS name,
    pg_catalog.format_type(a.atttypid, NULL) AS type_name,
    pg_catalog.format_type(a.atttypid, a.atttypmod) AS full_type,
    NOT a.attnotnull AS nullable,
    pg_catalog.pg_get_expr(d.adbin, d.adrelid) AS default_expr,
    a.attgenerated <> '' OR a.attidentity = 'a' AS generated,
    (SELECT json_agg(e.enumlabel ORDER BY e.enumsortorder) FROM pg_catalog.pg_enum AS e WHERE e.enumtypid IN (t.oid, t.typelem)) AS enum_labels,
    COALESCE(l.collisdeterministic, true) AS deterministic,
    keys.keys AS unique_keys
FROM target
JOIN pg_catalog.pg_attribute AS a ON a.attrelid = target.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_catalog.pg_type AS t ON t.oid = a.atttypid
LEFT JOIN pg_catalog.pg_collation AS l ON l.oid = a.attcollation
LEFT JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum AND a.attgenerated = ''
CROSS JOIN keys
ORDER BY a.attnum
