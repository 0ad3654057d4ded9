"""Words in the names of files and folders: which tell masks from pictures, splits from classes."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from sources import trees


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


MASK = _set(
    "mask masks label labels lbl seg segs segmentation segmentations segmented gt groundtruth groundtruths ground "
    "truth truths manual annotation annotations annot derivatives"
)
IMAGE = _set(
    "image images img imgs imaging picture pictures photo photos frame frames raw original originals input inputs "
    "scan scans volume volumes jpeg jpg png data"
)
ROLES = MASK | IMAGE
SPLITS = frozenset((*trees.SPLITS, "dev", "eval", "tr", "ts"))
SEQUENCES = _set(
    "t1 t1w t1c t1ce t1gd t1n t1post t2 t2w t2f t2star flair pd pdw dwi adc hbv b0 dce swi tof mra fa md "
    "ct cta ctp ncct cect pet suv"
)
"""What a volume shows of a body, as files are called."""
JUNK = _set("doc docs figure figures screenshot screenshots thumbnail thumbnails thumbs assets preview")
"""Folders whose pictures are about a data set, not of it."""

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\W\d_a-zA-Z]+")
_BETWEEN = "_-. +"


class Key(NamedTuple):
    """A name without what it says of its role: `x_image` is `x` and then `_image`."""

    before: str
    key: str
    after: str


def words(name: str) -> list[str]:
    """Return the words of a name in lower case.

    >>> words("JPEGImages"), words("labelsTr"), words("1st_manual")
    (['jpeg', 'images'], ['labels', 'tr'], ['1', 'st', 'manual'])
    """
    return [word.lower() for word in _WORD.findall(name)]


def says_mask(name: str) -> bool:
    """Return whether a name has a word for masks."""
    return not MASK.isdisjoint(words(name))


def key_of(stem: str) -> Key:
    """Take the words for a role off both ends of a name.

    >>> key_of("img_007"), key_of("benign (1)_mask")
    (Key(before='img_', key='007', after=''), Key(before='', key='benign (1)', after='_mask'))
    """
    found = list(_WORD.finditer(stem))
    first, last = 0, len(found)
    while first < last and found[first].group().lower() in ROLES:
        first += 1
    while last > first and found[last - 1].group().lower() in ROLES:
        last -= 1
    if first == last:
        return Key(stem, "", "")
    key = stem[: found[last].start()].rstrip(_BETWEEN) if last < len(found) else stem
    bare = key[found[first - 1].end() :].lstrip(_BETWEEN) if first else key
    before = key[: len(key) - len(bare)]
    return Key(before, bare, stem[len(key) :])


def bare(folder: str) -> str:
    """Return a folder's name without the words for a role; empty where there are no others.

    >>> bare("train_masks"), bare("imagesTr"), bare("labels")
    ('train', 'tr', '')
    """
    return "_".join(word for word in words(folder) if word not in ROLES)


def breaks(text: str) -> list[int]:
    """Return the places at which a name may be cut: between words, and at its end.

    >>> breaks("a1_b"), breaks("labelsTr")
    ([1, 2, 3, 4], [6, 8])
    """
    return [at for at in range(1, len(text) + 1) if at == len(text) or _ends(text[at - 1], text[at])]


def _ends(letter: str, following: str) -> bool:
    one, other = _kind(letter), _kind(following)
    return one != other or other == "other" or (letter.islower() and following.isupper())


def _kind(letter: str) -> str:
    return "digit" if letter.isdigit() else "letter" if letter.isalpha() else "other"


def common_start(texts: Sequence[str]) -> str:
    """Return what all texts begin with, cut back to the end of a word."""
    first, last = min(texts), max(texts)
    length = _shared(first, last)
    return first[: max(at for at in (0, *breaks(first)) if at <= length)]


def _shared(one: str, other: str) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((n for n, (a, b) in pairs if a != b), min(len(one), len(other)))


def common_end(texts: Sequence[str]) -> str:
    """Return what all texts end with, from the beginning of a word on."""
    back = [text[::-1] for text in texts]
    first, last, text = min(back), max(back), min(back)[::-1]
    length = _shared(first, last)
    return text[next(at for at in (0, *breaks(text)) if at >= len(text) - length) :]


def around(names: Sequence[str]) -> tuple[str, str]:
    """Return the words for a role that all names begin and end with.

    >>> around(["imagesTr", "imagesVal"]), around(["train_images", "test_images"]), around(["image a", "image b"])
    (('images', ''), ('', '_images'), ('image ', ''))
    """
    start = common_start(names)
    start = start if ROLES.issuperset(words(start)) else ""
    end = common_end([name[len(start) :] for name in names])
    end = end if ROLES.issuperset(words(end)) else ""
    whole = all(len(name) > len(start) + len(end) for name in names)
    return (start, end) if whole else ("", "")


def looks_like_ids(names: Sequence[str]) -> bool:
    """Return whether names number things of one kind: `patient001`, `case_7`, `0012`; a digit alone may be a grade.

    >>> looks_like_ids(["patient001", "patient002"]), looks_like_ids(["0", "1", "2"]), looks_like_ids(["NORMAL", "DME"])
    (True, False, False)
    """
    shapes = {re.sub("[0-9]+", "#", name) for name in names}
    if all(re.match("(sub|ses)-", name) for name in names):  # BIDS
        return True
    if len(names) < 2 or all(re.fullmatch("[0-9]", name) for name in names):
        return False
    numbered = [name for name in names if re.search("[0-9]", name)]
    return len(numbered) == len(names) and len(shapes) <= max(1, len(names) // 4)
