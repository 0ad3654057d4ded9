"""Drawn pictures with known truth: a chest radiograph set and a blood smear set, the flat half of the phantoms.

Lengths are px, boxes half-open with the origin at the top left edge. Radiographs are seen as on a light box: the
patient's right is at the picture's left.
"""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.pictures import Pixels, png
from pipeline.records import Box

Field = NDArray[np.float32]
"""`(y, x)`, mostly 0 to 1: how much of something a pixel holds."""
Point = tuple[float, float]
"""Chest: x in half widths from the midline, positive to the patient's left; y in heights from the top."""

Colour = tuple[float, float, float]
"""Share of red, green and blue light that passes."""

FINDINGS = ("normal", "pneumonia", "pleural effusion")
FILMS_EACH = 8
FILM_WIDTH, FILM_HEIGHT = 384, 352
SMEARS = 12
SMEAR_WIDTH, SMEAR_HEIGHT = 480, 360
CELL_LABELS = {"RBC": "red blood cell", "WBC": "white blood cell", "Platelets": "platelet"}
"""COCO category to vocabulary name, in the order of the category ids from 1."""
_RADII = {"RBC": (18, 21), "WBC": (29, 35), "Platelets": (4.5, 6.5)}


def descriptor(name: str, title: str, **facts: Any) -> dict[str, Any]:
    """Return a descriptor's content; what is drawn belongs to nobody and may be seen by all."""
    cc0 = {"name": "CC0-1.0", "redistribute": True, "commercial": True}
    return {"schema": "medgloss/1", "id": name, "title": title, "license": cc0, "egress": "any", **facts}


CHEST = descriptor(
    "phantom_chest",
    "Drawn chest radiographs in class folders, with a table of patients",
    modality="xray",
    body_part="chest",
    root="chest",
    cases={"match": "{class}/{stem}.png", "id": "{class}/{stem}", "group": "{t.patient}"},
    tables={"t": {"path": "labels.csv", "key": "image", "match": "{name}", "lists_cases": True}},
    annotations=[
        {"kind": "classes", "value": "{class}", "labels": {name: name for name in FINDINGS}, "complete": True}
    ],
    attributes={"sex": "{t.sex}", "view": "{t.view}"},
    expect={"cases": FILMS_EACH * len(FINDINGS)},
)
BLOOD = descriptor(
    "phantom_blood",
    "Drawn blood smears with COCO boxes",
    modality="microscopy",
    body_part="blood",
    root="blood",
    cases={"match": "images/{stem}.png", "id": "{stem}"},
    annotations=[{"kind": "coco", "path": "annotations.json", "labels": CELL_LABELS, "complete": True}],
    expect={"cases": SMEARS},
)


@dataclass(frozen=True, slots=True)
class Patient:
    """Who stands before the detector."""

    name: str
    sex: str
    breadth: float
    """Of the chest, 1 on average."""
    heart: float
    """Of the heart's width, 1 on average."""
    seed: int
    """Of the vessels and the ribs' slope."""


@dataclass(frozen=True, slots=True)
class Film:
    """One radiograph."""

    stem: str
    patient: Patient
    view: str
    """PA or AP; the heart is larger on AP."""
    finding: str
    seed: int
    """Of noise, exposure and the finding's place."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a smear; its place and radius in px."""

    raw: str
    """COCO category."""
    x: float
    y: float
    radius: float
    phase: float
    """Of the outline's dents, in radians."""
    oval: float
    """How far the outline leaves the circle, in radii."""
    seed: int
    """Of what is inside."""


def write_chest(folder: Path) -> dict[str, str]:
    """Write the radiographs and their table.

    Returns:
        File below the folder to its class.
    """
    films = list(_films())
    for film in films:
        path = folder / film.finding / f"{film.stem}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(_radiograph(film)))
    table = io.StringIO()
    rows = [(f"{f.stem}.png", f.patient.name, f.patient.sex, f.view, f.finding) for f in films]
    csv.writer(table, lineterminator="\n").writerows([("image", "patient", "sex", "view", "finding"), *rows])
    (folder / "labels.csv").write_bytes(table.getvalue().encode())
    return {f"{film.finding}/{film.stem}.png": film.finding for film in films}


def write_blood(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Write the smears and their COCO file.

    Returns:
        File name to its cells: vocabulary name and box.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    truth = {}
    for number in range(1, SMEARS + 1):
        cells, name = _smear_cells(number), f"smear_{number:02d}.png"
        (folder / "images" / name).write_bytes(png(_smear(cells, number)))
        truth[name] = [{"label": CELL_LABELS[c.raw], "raw": c.raw, "box": list(_box(c))} for c in cells]
    (folder / "annotations.json").write_bytes(json.dumps(_coco(truth), indent=1).encode())
    return truth


def _films() -> Iterable[Film]:
    """Deal 24 films to 12 patients with 2, 1 and 3 each; one patient has films of two classes, as after a follow-up."""
    owners = [patient for patient in range(12) for _ in range((2, 1, 3)[patient % 3])]
    for number, owner in enumerate(owners):
        rng = np.random.default_rng([10, owner])
        breadth, heart = rng.uniform(0.94, 1.06), rng.uniform(0.92, 1.1)
        patient = Patient(f"P{owner + 1:03d}", "FM"[owner % 2], float(breadth), float(heart), owner)
        view = "AP" if number % 4 == 3 else "PA"
        yield Film(f"film_{number + 1:02d}", patient, view, FINDINGS[number // FILMS_EACH], number)


def _outline(text: str) -> list[Point]:
    """Read `x y, x y, ...`."""
    return [(float(x), float(y)) for x, y in (pair.split() for pair in text.split(","))]


_BODY = _outline(
    """
    0.15 -0.1, 0.16 0.03, 0.34 0.075, 0.68 0.1, 0.9 0.16, 1.2 0.24, 1.2 0.42, 0.88 0.42, 0.79 0.48, 0.77 0.7,
    0.8 1.1
    """
)
_RIGHT_LUNG = _outline(
    """
    -0.13 0.13, -0.24 0.085, -0.38 0.12, -0.5 0.24, -0.59 0.44, -0.64 0.66, -0.655 0.83, -0.63 0.81,
    -0.54 0.715, -0.38 0.665, -0.22 0.69, -0.1 0.76, -0.1 0.55, -0.11 0.3
    """
)
_LEFT_LUNG = _outline(
    """
    0.13 0.13, 0.24 0.085, 0.38 0.12, 0.5 0.24, 0.59 0.44, 0.635 0.66, 0.65 0.86, 0.625 0.84, 0.54 0.755,
    0.4 0.71, 0.24 0.73, 0.1 0.78, 0.1 0.55, 0.11 0.3
    """
)
_HEART = _outline(
    """
    -0.12 0.42, 0.02 0.36, 0.16 0.4, 0.25 0.5, 0.36 0.62, 0.4 0.71, 0.34 0.77, 0.1 0.8, -0.12 0.77,
    -0.18 0.66, -0.17 0.54
    """
)
_MEDIASTINUM = _outline(
    """
    -0.12 -0.1, 0.12 -0.1, 0.11 0.2, 0.15 0.27, 0.17 0.32, 0.12 0.38, 0.15 0.48, 0.12 1.1, -0.12 1.1,
    -0.13 0.5, -0.13 0.3, -0.1 0.2
    """
)
_CLAVICLE = [(0.07, 0.2), (0.2, 0.19), (0.36, 0.15), (0.54, 0.135), (0.7, 0.15)]


def _radiograph(film: Film) -> Pixels:
    """Draw a frontal chest film: air takes from the body's grey what the heart, fluid or pus give back."""
    rng = np.random.default_rng([11, film.seed])
    wide = film.patient.breadth
    right, left = _filled(_RIGHT_LUNG, wide, 2.0), _filled(_LEFT_LUNG, wide, 2.0)
    heart = _filled(_HEART, wide * film.patient.heart * (1.12 if film.view == "AP" else 1.0), 3.0)
    air = (right + left) * (1 - 0.97 * heart) * (1 - 0.9 * _filled(_MEDIASTINUM, wide, 3.5))
    side = 1.0 if rng.uniform() < 0.5 else -1.0
    if film.finding == "pneumonia":
        air = air * (1 - _consolidation(rng, side))
    elif film.finding == "pleural effusion":
        air = air * (1 - _fluid(rng, side, wide))
    grey = _soft_tissue(film.patient) - 0.45 * air + _bones(film.patient, air)
    vessels = cv2.GaussianBlur(_vessels(film.patient), (0, 0), 1.1) + 0.8 * _hila(wide)
    grey = grey + 0.13 * vessels * np.minimum(1, air + 0.15)
    grey = cv2.GaussianBlur(grey, (0, 0), 0.8) * rng.uniform(0.95, 1.05)
    noise = 0.004 * rng.standard_normal(grey.shape, np.float32) + 0.02 * _clouds(rng, 40)
    return np.asarray(np.clip((grey + noise) * 255, 4, 250), np.uint8)


def _soft_tissue(patient: Patient) -> Field:
    x, y = _grid()
    outline = _BODY + [(-px, py) for px, py in reversed(_BODY)]
    body = _filled(outline, patient.breadth, 3.0)
    grey = body * (0.6 + 0.1 * y - 0.12 * np.abs(x) ** 3) + 0.03
    for lung in (-1, 1):
        if patient.sex == "F":
            breast = ((x - 0.4 * lung) / 0.26) ** 2 + ((y - 0.66) / 0.15) ** 2
            grey += 0.045 * _edge(1 - breast, 0.9)
    trachea = _edge(0.032 - np.abs(x - 0.008), 0.012) * _edge(0.36 - y, 0.02)
    stomach = _edge(1 - ((x - 0.34) / 0.13) ** 2 - ((y - 0.83) / 0.055) ** 2, 0.7)
    return np.asarray(grey - 0.09 * trachea - 0.13 * stomach, np.float32)


def _bones(patient: Patient, air: Field) -> Field:
    """Ribs, clavicles, arms and spine; ribs show over air and drown in what is dense."""
    x, y = _grid()
    slope = np.random.default_rng([12, patient.seed]).uniform(0.1, 0.15)
    # a rib's cortex is brighter than its marrow: a broad stroke less a narrow one
    posterior, anterior = [], []
    for number in range(9):
        top = 0.12 + 0.074 * number
        reach = min(0.66, 0.34 + 0.1 * number) * patient.breadth
        along = np.linspace(0.06, 1, 16)
        arc = [(float(reach * t), float(top + slope * t**2.2 - 0.04 * np.sin(np.pi * t))) for t in along]
        back = [(float(reach * (1 - 0.6 * t)), float(top + slope + 0.16 * t**1.3)) for t in along]
        posterior += [arc, _mirrored(arc)]
        anterior += [back, _mirrored(back)] if number < 7 else []
    ribs = _strokes(posterior, 9) - 0.55 * _strokes(posterior, 5)
    faint = _strokes(anterior, 9) - 0.55 * _strokes(anterior, 5)
    seen = (0.35 + 0.65 * air) * _edge(0.86 - y, 0.08) * _edge(0.72 * patient.breadth - np.abs(x), 0.03)
    collar = [_CLAVICLE, _mirrored(_CLAVICLE)]
    clavicles = _strokes(collar, 12) - 0.4 * _strokes(collar, 7)
    disc = 0.75 + 0.25 * np.cos(2 * np.pi * y / 0.072)
    spine = _edge(0.075 - np.abs(x), 0.015) * disc
    blur = cv2.GaussianBlur((0.11 * ribs + 0.05 * faint) * seen + 0.13 * clavicles, (0, 0), 1.0)
    humerus = _edge(1 - ((np.abs(x) - 0.84) / 0.1) ** 2 - ((y - 0.225) / 0.075) ** 2, 0.6)
    return np.asarray(blur + 0.09 * spine + 0.05 * humerus, np.float32)


def _vessels(patient: Patient) -> Field:
    """Branches that leave each hilum and thin out."""
    rng = np.random.default_rng([13, patient.seed])
    canvas = np.zeros((FILM_HEIGHT, FILM_WIDTH), np.float32)
    for lung in (-1.0, 1.0):
        for angle in np.linspace(-1.25, 1.25, 9):
            at, heading = np.array([0.15 * lung, 0.45]), angle + rng.uniform(-0.12, 0.12)
            for step in range(8):
                move = 0.062 * np.array([lung * np.cos(heading), 0.62 * np.sin(heading)])
                _stroke(canvas, [tuple(at), tuple(at + move)], max(1, 4 - step // 2), 1.0 - 0.1 * step)
                twig = heading + rng.choice([-0.7, 0.7])
                end = at + 0.8 * 0.06 * np.array([lung * np.cos(twig), 0.62 * np.sin(twig)])
                _stroke(canvas, [tuple(at), tuple(end)], 1, 0.7 - 0.07 * step)
                at, heading = at + move, heading + rng.uniform(-0.2, 0.2)
    return canvas


def _hila(wide: float) -> Field:
    x, y = _grid()
    spots = [np.exp(-(((x - side * 0.17 * wide) / 0.07) ** 2) - ((y - 0.45) / 0.07) ** 2) for side in (-1, 1)]
    return np.asarray(np.sum(spots, axis=0), np.float32)


def _consolidation(rng: np.random.Generator, side: float) -> Field:
    """Hazy, patchy opacity in one lung's middle or lower zone."""
    x, y = _grid()
    px, py = side * rng.uniform(0.34, 0.44), rng.uniform(0.42, 0.6)
    spread = np.exp(-((((x - px) / 0.2) ** 2 + ((y - py) / 0.14) ** 2) ** 1.3))
    patchy = 0.78 + 0.3 * _clouds(rng, 9)
    return np.asarray(np.clip(spread * patchy, 0, 0.9), np.float32)


def _fluid(rng: np.random.Generator, side: float, wide: float) -> Field:
    """Fluid that blunts the costophrenic angle, with a meniscus that climbs the lateral wall."""
    x, y = _grid()
    lateral = np.clip(side * x / (0.64 * wide), 0, 1.1)
    level = rng.uniform(0.61, 0.72) - 0.14 * lateral**5
    return np.asarray(_edge(y - level, 0.012) * _edge(side * x, 0.02), np.float32)


def _grid() -> tuple[Field, Field]:
    x, y = np.arange(FILM_WIDTH) + 0.5, np.arange(FILM_HEIGHT) + 0.5
    return (x / (FILM_WIDTH / 2) - 1).astype(np.float32)[None, :], (y / FILM_HEIGHT).astype(np.float32)[:, None]


def _edge(distance: NDArray[Any], width: float) -> Field:
    """1 where the distance is positive, 0 where negative, a soft step of some width between."""
    return np.asarray(1 / (1 + np.exp(-np.clip(distance / width * 3, -30, 30))), np.float32)


def _mirrored(line: Sequence[Point]) -> list[Point]:
    return [(-x, y) for x, y in line]


def _to_px(points: Sequence[Point], wide: float) -> NDArray[np.int32]:
    """Round to 1/16 px, as cv2's `shift=4` wants."""
    at = np.array(points) * (wide * FILM_WIDTH / 2, FILM_HEIGHT) + (FILM_WIDTH / 2, 0)
    rounded: NDArray[np.int32] = np.rint(at * 16).astype(np.int32)
    return rounded


def _filled(points: Sequence[Point], wide: float, blur: float) -> Field:
    """Fill a closed outline whose corners are cut three times (Chaikin), edges blurred by a sd in px."""
    at = np.array(points)
    for _ in range(3):
        following = np.roll(at, -1, axis=0)
        at = np.stack([0.75 * at + 0.25 * following, 0.25 * at + 0.75 * following], axis=1).reshape(-1, 2)
    canvas = np.zeros((FILM_HEIGHT, FILM_WIDTH), np.float32)
    cv2.fillPoly(canvas, [_to_px([(x, y) for x, y in at], wide)], 1.0, cv2.LINE_8, 4)
    return np.asarray(cv2.GaussianBlur(canvas, (0, 0), blur), np.float32)


def _strokes(lines: Iterable[Sequence[Point]], thickness: int) -> Field:
    canvas = np.zeros((FILM_HEIGHT, FILM_WIDTH), np.float32)
    for line in lines:
        _stroke(canvas, line, thickness, 1.0)
    return canvas


def _stroke(canvas: Field, line: Sequence[Any], thickness: int, value: float) -> None:
    cv2.polylines(canvas, [_to_px(line, 1.0)], False, value, thickness, cv2.LINE_8, 4)


def _clouds(rng: np.random.Generator, sd: float) -> Field:
    """Smooth noise of about unit amplitude."""
    coarse = rng.standard_normal((FILM_HEIGHT // 4, FILM_WIDTH // 4), np.float32)
    smooth = cv2.GaussianBlur(coarse, (0, 0), sd / 4)
    return np.asarray(cv2.resize(smooth / smooth.std(), (FILM_WIDTH, FILM_HEIGHT)), np.float32)


def _smear_cells(number: int) -> list[Cell]:
    """Scatter cells; red ones may overlap a little, and one that finds its places taken is left out."""
    rng = np.random.default_rng([20, number])
    cells: list[Cell] = []
    for raw, count in (("WBC", rng.integers(0, 3)), ("Platelets", rng.integers(2, 7)), ("RBC", 44)):
        for _ in range(int(count)):
            places = (_scattered(raw, rng) for _ in range(12))
            free = next((cell for cell in places if all(_apart(cell, other) for other in cells)), None)
            cells += [free] if free else []
    return cells


def _scattered(raw: str, rng: np.random.Generator) -> Cell:
    """Put a cell anywhere, cut off by the picture's edge at most to a little under its half."""
    radius = rng.uniform(*_RADII[raw])
    x, y = (rng.uniform(0.2 * radius, side - 0.2 * radius) for side in (SMEAR_WIDTH, SMEAR_HEIGHT))
    phase, oval = rng.uniform(0, 2 * np.pi), rng.uniform(0.02, 0.07)
    return Cell(raw, float(x), float(y), float(radius), float(phase), float(oval), int(rng.integers(1 << 31)))


def _apart(cell: Cell, other: Cell) -> bool:
    share = 0.78 if cell.raw == other.raw == "RBC" else 1.04
    return bool(np.hypot(cell.x - other.x, cell.y - other.y) > share * (cell.radius + other.radius))


def _smear(cells: Sequence[Cell], number: int) -> Pixels:
    """Draw the light that passes a stack of stained cells, lit a little unevenly."""
    light = np.full((SMEAR_HEIGHT, SMEAR_WIDTH, 3), (0.95, 0.91, 0.91), np.float32)
    for cell in cells:
        for stain, tint in _stains(cell):
            # Beer and Lambert: light falls by the tint for each unit of thickness, so an overlap is darker
            light[_window(cell)] *= np.array(tint, np.float32) ** stain[..., None]
    y, x = np.ogrid[-0.5 : 0.5 : SMEAR_HEIGHT * 1j, -0.5 : 0.5 : SMEAR_WIDTH * 1j]
    lit = cv2.GaussianBlur(light, (0, 0), 0.7) * (1 - 0.1 * (x**2 + y**2))[..., None]
    return np.asarray(np.clip(np.rint(lit * 255), 0, 255), np.uint8)


def _stains(cell: Cell) -> list[tuple[Field, Colour]]:
    """Return thickness and tint of what a cell is made of, in its window."""
    distance, rng = _distance(cell), np.random.default_rng(cell.seed)
    cover = _cover(cell)
    if cell.raw == "RBC":
        pallor = 0.72 * np.exp(-((distance / rng.uniform(0.38, 0.5)) ** 2))
        return [(cover * (1 - pallor), (0.9, 0.6, 0.64))]
    if cell.raw == "WBC":
        return [(cover, (0.88, 0.84, 0.95)), (_nucleus(cell, rng) * cover, (0.5, 0.3, 0.66))]
    return [(cover * (0.7 + 0.5 * np.exp(-((distance / 0.5) ** 2))), (0.66, 0.46, 0.76))]


def _nucleus(cell: Cell, rng: np.random.Generator) -> Field:
    """Two to four lobes on an arc, as in a neutrophil, darker in clumps."""
    count, start = int(rng.integers(2, 5)), rng.uniform(0, 2 * np.pi)
    dx, dy = _offsets(cell)
    lobes = np.zeros(np.broadcast_shapes(dx.shape, dy.shape), np.float32)
    for turn in start + np.arange(count) * 1.35:
        away = np.hypot(dx - 0.4 * cell.radius * np.cos(turn), dy - 0.4 * cell.radius * np.sin(turn))
        lobes = np.maximum(lobes, np.clip(0.37 * cell.radius - away, 0, 1))
    clumps = cv2.GaussianBlur(rng.standard_normal(lobes.shape, np.float32), (0, 0), 2.5)
    return np.asarray(lobes * (1 + 1.5 * clumps), np.float32)


def _box(cell: Cell) -> Box:
    """Return the box of the pixels that the cell covers by at least half."""
    rows, columns = np.nonzero(_cover(cell) >= 0.5)
    across, along = _window(cell)[1].start, _window(cell)[0].start
    x0, y0, x1, y1 = columns.min() + across, rows.min() + along, columns.max() + across, rows.max() + along
    return Box(int(x0), int(y0), int(x1) + 1, int(y1) + 1)


def _cover(cell: Cell) -> Field:
    return np.asarray(np.clip((1 - _distance(cell)) * cell.radius + 0.5, 0, 1), np.float32)


def _distance(cell: Cell) -> Field:
    """Distance from the centre in radii of a slightly dented, slightly oval outline; 1 on the outline."""
    dx, dy = _offsets(cell)
    angle = np.arctan2(dy, dx)
    outline = 1 + cell.oval * np.cos(2 * angle + cell.phase) + 0.02 * np.cos(3 * angle + 2 * cell.phase)
    return np.asarray(np.hypot(dx, dy) / (cell.radius * outline), np.float32)


def _offsets(cell: Cell) -> tuple[Field, Field]:
    """Return the pixel centres of the cell's window from its centre, x as a row and y as a column."""
    v, u = np.ogrid[_window(cell)]
    return np.asarray(u + 0.5 - cell.x, np.float32), np.asarray(v + 0.5 - cell.y, np.float32)


def _window(cell: Cell) -> tuple[slice, slice]:
    reach = 1.12 * cell.radius + 2
    rows = slice(max(0, int(cell.y - reach)), min(SMEAR_HEIGHT, int(cell.y + reach) + 1))
    return rows, slice(max(0, int(cell.x - reach)), min(SMEAR_WIDTH, int(cell.x + reach) + 1))


def _coco(truth: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    ids = {raw: number for number, raw in enumerate(CELL_LABELS, 1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (name, cells) in enumerate(truth.items(), 1):
        images.append({"id": number, "file_name": name, "width": SMEAR_WIDTH, "height": SMEAR_HEIGHT})
        for cell in cells:
            x0, y0, x1, y1 = cell["box"]
            size = [x1 - x0, y1 - y0]
            entry = {"bbox": [x0, y0, *size], "area": size[0] * size[1], "iscrowd": 0}
            annotations.append(
                {"id": len(annotations) + 1, "image_id": number, "category_id": ids[cell["raw"]], **entry}
            )
    categories = [{"id": number, "name": raw} for raw, number in ids.items()]
    return {"images": images, "annotations": annotations, "categories": categories}
