-- Asked by the MERGE of an entity with on_missing = 'dead_letter' about a patch whose row does not exist.
CREATE FUNCTION {schema}.row_missing() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'there is no row of this key' USING ERRCODE = 'WB002';
END
$$;
