-- The demo's own table, as a service's own migrations would make it. `writebehind migrate --tables` adds the column of versions.
CREATE TABLE players (
    id bigint PRIMARY KEY,
    name text,
    points bigint NOT NULL DEFAULT 0,
    best bigint
);
