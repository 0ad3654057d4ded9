"""What answers requests, one module per backend; each has `connect(spec, role) -> Backend`."""
