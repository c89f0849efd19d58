"""The demo: a year of real departures through the whole path, a flusher killed on the way, every row checked."""
