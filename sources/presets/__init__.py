"""One module per well-known layout; the module's name is the `preset:` of a descriptor, `fill` gives its other keys."""
