"""The data sets that come in: the descriptor, one module per annotation layout, catalog and vocabulary."""
