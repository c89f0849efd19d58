"""`writebehind grants`: the least that each part has to be allowed, as statements for Postgres, the cache and Kafka."""
