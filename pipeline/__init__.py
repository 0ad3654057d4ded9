"""The path itself: ingest, generate, curate, export. Importing this package costs nothing."""
