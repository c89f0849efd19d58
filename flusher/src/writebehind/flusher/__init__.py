"""The flusher: consumes an entity's records and writes them to Postgres in batches, exactly once."""
