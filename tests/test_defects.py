"""What `medgloss check` remarks on a data set."""

import numpy as np
import pytest

from pipeline import vocabulary
from pipeline.defects import Scan
from pipeline.ingest.source import Source
from pipeline.ingest.stage import read_case

RNG = np.random.default_rng(5)


def picture() -> np.ndarray:
    return RNG.integers(0, 255, (40, 50), np.uint8)


def disc(y: int, x: int, radius: int) -> np.ndarray:
    rows, columns = np.mgrid[:40, :50]
    return (((rows - y) ** 2 + (columns - x) ** 2 <= radius**2) * 255).astype(np.uint8)


@pytest.fixture
def odd(data_set):
    def scan(yaml, files):
        toy = data_set(yaml, files)
        source, found = Source(toy.descriptor, toy.root, vocabulary.load()), Scan()
        for case in toy.plan().cases:
            found.add(case, read_case(case, source))
        return list(found.lines())

    return scan


MASKS = """
limits: none
cases: {match: "img/{stem}.png", id: "{stem}"}
annotations: [{kind: mask, path: "mask/{stem}_{label}.png"}]
"""


def test_nothing_odd_gives_no_line(odd):
    assert odd(MASKS, {"img/a.png": picture(), "mask/a_liver.png": disc(20, 20, 8)}) == []


def test_masks_that_are_empty_full_inverted_or_the_same_under_two_names(odd):
    files = {f"img/{name}.png": picture() for name in "abcd"} | {
        "mask/a_liver.png": disc(20, 20, 0) * 0,
        "mask/b_liver.png": disc(20, 20, 8) * 0 + 255,
        "mask/c_liver.png": 255 - disc(20, 20, 8),
        "mask/d_liver.png": disc(20, 20, 8),
        "mask/d_spleen.png": disc(20, 20, 8),
    }
    lines = odd(MASKS, files)
    assert [line.split()[:3] for line in lines] == [
        ["1", "mask(s)", "without"],
        ["1", "mask(s)", "of"],
        ["1", "mask(s)", "that"],
        ["1", "mask(s)", "whose"],
    ]


def test_a_label_that_always_holds_another_may_be_a_union(odd):
    files = {}
    for n in range(4):
        files |= {
            f"img/{n}.png": picture(),
            f"mask/{n}_liver.png": disc(18 + n, 20, 12),
            f"mask/{n}_tumor.png": disc(18 + n, 20, 4),
        }
    assert odd(MASKS, files) == ["     4 picture(s) where 'liver' holds all of 'tumor': a union label?"]


SPLIT = """
cases: {match: "{split}/{class}/{stem}.{ext:png|bmp}", id: "{split}-{class}-{stem}"}
attributes: {split: "{split}"}
annotations: [{kind: classes, value: "{class}"}]
"""


def test_the_same_picture_in_two_splits_is_told(odd):
    same = picture()
    files = {"train/normal/1.png": same, "test/normal/9.png": same, "test/normal/2.png": picture()}
    lines = odd(SPLIT, files)
    assert lines[0] == "     1 picture(s) stand more than once"
    assert lines[1].startswith("     1 picture(s) stand in two splits, e.g. toy/test-normal-9/image and toy/train")


def test_a_file_type_that_tells_the_class_is_told(odd):
    files = {f"train/normal/{n}.png": picture() for n in range(6)}
    files |= {f"train/pneumonia/{n}.bmp": picture() for n in range(6)}
    assert odd(SPLIT, files) == ["    12 picture(s) whose file type tells the class: normal .png, pneumonia .bmp"]
    mixed = files | {"train/pneumonia/x.png": picture()}
    assert odd(SPLIT, mixed) == []
