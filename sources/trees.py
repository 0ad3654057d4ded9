"""What a folder looks like from a few of its files: enough to tell one usual arrangement from another."""

import re
from collections.abc import Iterable
from pathlib import Path

SUFFIXES = ("bmp", "jp2", "jpeg", "jpg", "pgm", "png", "ppm", "tif", "tiff", "webp")
EXT = f"{{ext:(?i:{'|'.join(SUFFIXES)})}}"
"""Capture of a picture's suffix."""
PICTURE = f"{{picture:.+}}.{EXT}"
"""Template of a picture in a folder or in folders of it."""
SPLITS = ("test", "testing", "train", "training", "val", "valid", "validation")


def folders(root: Path) -> list[str]:
    """Return the names of the folders in a folder, sorted, without hidden ones."""
    return sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def has_pictures(folder: Path) -> bool:
    """Return whether a picture lies in a folder itself."""
    return folder.is_dir() and any(path.suffix[1:].lower() in SUFFIXES for path in folder.iterdir())


def beside(file: Path) -> bool:
    """Return whether a picture of the same name lies beside a file."""
    return any(file.with_suffix(f".{suffix}").is_file() for suffix in SUFFIXES)


def first(root: Path, *patterns: str) -> Path | None:
    """Return the first file that fits the first pattern that any fits, shadows of macOS left out."""
    for pattern in patterns:
        found = (path for path in root.glob(pattern) if path.is_file() and not path.name.startswith("."))
        path = min(found, default=None)
        if path is not None:
            return path
    return None


def one_of(name: str, texts: Iterable[str]) -> str:
    """Return a capture of one of some names.

    >>> one_of("split", ["val", "train"])
    '{split:train|val}'
    """
    return f"{{{name}:{'|'.join(re.escape(text) for text in sorted(texts))}}}"
