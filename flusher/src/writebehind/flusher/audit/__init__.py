"""The drift audit: what the cache shows, compared with what the database holds, while both go on changing."""
