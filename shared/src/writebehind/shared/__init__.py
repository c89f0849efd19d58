"""The contract between producer, flusher and audit. No I/O."""
