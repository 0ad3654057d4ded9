"""One module per well-known layout; the module's name is the `preset:` of a descriptor, `fill` gives its other keys.

`ORIGIN` says what its annotations make of the data set, which is known before its files are there.
"""
