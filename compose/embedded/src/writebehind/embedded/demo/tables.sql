-- The demo's tables, as a service would have them: writebehind only asks for a primary key and the versions column.
CREATE TABLE routes (
    origin text NOT NULL,
    dest text NOT NULL,
    flights bigint NOT NULL DEFAULT 0,
    cancelled bigint NOT NULL DEFAULT 0,
    delay_minutes bigint NOT NULL DEFAULT 0,
    worst_delay bigint,
    last_departure timestamptz,
    versions bigint[] NOT NULL DEFAULT '{}',
    PRIMARY KEY (origin, dest)
) WITH (fillfactor = 80);

CREATE TABLE aircraft (
    tailnum text PRIMARY KEY,
    flights bigint NOT NULL DEFAULT 0,
    cancelled bigint NOT NULL DEFAULT 0,
    delay_minutes bigint NOT NULL DEFAULT 0,
    worst_delay bigint,
    last_departure timestamptz,
    last_destination text,
    versions bigint[] NOT NULL DEFAULT '{}'
) WITH (fillfactor = 80);
