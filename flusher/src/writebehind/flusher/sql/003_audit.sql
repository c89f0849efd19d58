-- Runs of `writebehind audit`: where each stands, so that it can go on when it was interrupted, and what it counted.
CREATE TABLE {schema}.audit_run (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    started_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    started_by text NOT NULL,
    options text NOT NULL,
    cursor jsonb,
    entities jsonb NOT NULL DEFAULT '{{}}'
);

-- Entries that a run found not to be in sync, and what was done about them. No values of fields.
CREATE TABLE {schema}.audit_finding (
    run bigint NOT NULL REFERENCES {schema}.audit_run (id) ON DELETE CASCADE,
    entity text NOT NULL,
    key text NOT NULL,
    found_at timestamptz NOT NULL DEFAULT now(),
    verdict text NOT NULL,
    fields text[] NOT NULL,
    entry_version bigint NOT NULL,
    row_version bigint NOT NULL,
    repair text,
    repaired_by text,
    PRIMARY KEY (run, entity, key)
);
CREATE INDEX ON {schema}.audit_finding (entity, key);
