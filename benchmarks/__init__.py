"""What ingest costs, against programs that a user would write and against the fastest parts that are known."""
