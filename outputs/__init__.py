"""Writers, one module per training format. Artefacts go to the run folder, never here."""
