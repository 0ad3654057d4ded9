"""Generate: records in, samples out."""
