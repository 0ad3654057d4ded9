"""Where `work(task)` runs: on this machine, or on a Ray cluster."""
