"""One module per annotation layout; the module's name is the `kind:` of an annotation."""
