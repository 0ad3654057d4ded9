#!/usr/bin/env python3
"""Entry point: `python pipeline/run.py …`, `ray job submit --working-dir . pipeline/run.py …`."""

import sys
from pathlib import Path

if not __package__:  # run as a file: look up imports from the repository, not from pipeline/
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from pipeline.cli import main

if __name__ == "__main__":
    sys.exit(main())
