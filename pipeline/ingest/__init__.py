"""Ingest: cases in, records out."""
