-- Whether we hold a privilege; NULL when there is no such thing. By name from the catalog: to_regclass() asks for USAGE.
-- Parameters: kind, schema, name, columns (empty: all of it), privilege.
SELECT CASE %(kind)s
    WHEN 'SCHEMA' THEN (
        SELECT pg_catalog.has_schema_privilege(n.oid, %(privilege)s)
        FROM pg_catalog.pg_namespace AS n WHERE n.nspname = %(schema)s
    )
    WHEN 'FUNCTION' THEN (
        SELECT bool_and(pg_catalog.has_function_privilege(p.oid, %(privilege)s))
        FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
        WHERE n.nspname = %(schema)s
            AND p.proname || '(' || pg_catalog.oidvectortypes(p.proargtypes) || ')' = %(name)s
    )
    ELSE (
        SELECT CASE
            WHEN cardinality(%(columns)s::text[]) = 0 THEN pg_catalog.has_table_privilege(c.oid, %(privilege)s)
            ELSE (
                SELECT bool_and(pg_catalog.has_column_privilege(c.oid, a.attnum, %(privilege)s))
                FROM pg_catalog.pg_attribute AS a
                WHERE a.attrelid = c.oid AND a.attname = ANY (%(columns)s::text[])
            )
        END
        FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname = %(schema)s AND c.relname = %(name)s
    )
END
