"""Well-known trees: which of the presets may fit, and below which folder."""

import re
from collections.abc import Iterator

from pipeline.propose.folder import Seen
from pipeline.propose.guess import Guess

_SIGNS: tuple[tuple[str, str], ...] = (
    ("nnunet_v2", r"(?:(.*)/)?dataset\.json"),
    ("nnunet_v1", r"(?:(.*)/)?dataset\.json"),
    ("msd", r"(?:(.*)/)?dataset\.json"),
    ("totalsegmentator", r"(?:(.*)/)?[^/]+/segmentations/[^/]+\.nii\.gz"),
    ("brats", r"()(?:.*/)?[^/]+(?:_flair\.nii(?:\.gz)?|-t2f\.nii\.gz)"),
    ("kits", r"()(?:.*/)?case_[0-9]+/(?:segmentation|aggregated_MAJ_seg)\.nii\.gz"),
    ("acdc", r"()(?:.*/)?patient[0-9]+_frame[0-9]+_gt\.nii(?:\.gz)?"),
    ("luna16", r"()(?:.*/)?subset[0-9]/[0-9.]+\.mhd"),
    ("medmnist", r"(?:(.*)/)?[a-z]+mnist(?:_[0-9]+)?\.npz"),
    ("imagefolder", r"(?:(.*)/)?metadata\.(?:csv|jsonl|parquet)"),
    ("coco", r"(?:(.*)/)?[^/]+/_annotations\.coco\.json"),
    ("coco", r"(?:(.*)/)?annotations/instances_[^/]+\.json"),
    ("voc", r"()(?:[^/]+/){0,2}Annotations/[^/]+\.xml"),
    ("yolo", r"(?:(.*)/)?(?:data\.yaml|dataset\.yaml|classes\.txt|[^/]+\.names)"),
)
"""Preset and a path that its tree has; what the first group captures is the root."""


def guesses(seen: Seen) -> Iterator[Guess]:
    """Yield the presets of whose tree there is a sign, each with the folder that would be its root."""
    for name, sign in _SIGNS:
        pattern = re.compile(sign)
        roots = sorted({found[1] or "" for path in seen.paths if (found := pattern.fullmatch(path))})
        for below in roots[:20]:
            yield Guess(f"preset {name}", {"preset": name}, (f"the tree is that of preset {name}",), below)
    arrays = [path for path in seen.of("array") if re.fullmatch(r"[a-z]+mnist(_[0-9]+)?\.npz", path)]
    for path in arrays if len(arrays) > 1 else ():
        said = (f"{path} alone: there are {len(arrays)} such files, each a data set of its own",)
        yield Guess("preset medmnist", {"preset": "medmnist", "cases": {"match": path}}, said)
