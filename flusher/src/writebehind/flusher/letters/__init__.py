"""`writebehind letters`: what became of records that were skipped, and bringing them in after all."""
