"""A patient's name, number, birth date and hospital stand wherever files can hold them, and in nothing a run makes.

`planted.py` writes the data sets and finds the texts again: also in what is packed, encoded, or within pictures.
"""

import re
import stat
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import planted
import pyarrow.parquet as pq
import pytest
import yaml as pyyaml
from aiohttp import web
from fake_openai import FakeOpenAI, Reply
from hostile_forms import GREY, encoded, written
from planted import TEXT, TOKENS, WHO, sources, tokens_in
from test_dicom_pixels import dicom_file

from pipeline import pictures
from pipeline.cli import main

NAMES = sorted(sources())


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDGLOSS_ID_KEY", "a secret of 22 letters")


def leaks(run: Path) -> dict[str, set[str]]:
    """Return file to the planted texts in its content or name; the table of hashed ids is meant to hold them."""
    found = {}
    for file in sorted(path for path in run.rglob("*") if path.is_file()):
        name = str(file.relative_to(run))
        if name != "private/cases.csv":
            found[name] = tokens_in(file.read_bytes()) | tokens_in(name.encode())
    return {name: tokens for name, tokens in found.items() if tokens}


def rows(run: Path, kind: str) -> list[dict[str, object]]:
    return [row for file in sorted((run / kind).rglob("*.parquet")) for row in pq.read_table(file).to_pylist()]


# ---- the texts are there to be found


@pytest.mark.parametrize("name", NAMES)
def test_each_text_is_found_in_the_files_that_hold_it(name):
    found = {path: tokens_in(data) for path, data in sources()[name].files.items()}
    assert set().union(*found.values(), tokens_in("".join(found).encode())) == set(TOKENS)
    plain = {path for path, tokens in found.items() if not tokens}
    assert all(path.endswith(("_picture.png", f"{WHO}.png", "/a.png")) for path in plain)


def test_texts_are_found_within_what_is_packed_and_encoded(tmp_path):
    held = {
        "utf-16": TEXT.encode("utf-16"),
        "capitals": TEXT.upper().encode(),
        **{name: data for name, data in planted.pngs().items() if name in ("ztxt.png", "icc.png")},
        "page": b'<img src="data:image/jpeg;base64,' + planted.base64.b64encode(planted.jpegs()["exif.jpg"]) + b'">',
        "parquet": sources()["rows"].files[f"{WHO}.parquet"],
    }
    assert {name: bool(tokens_in(data)) for name, data in held.items()} == dict.fromkeys(held, True)
    assert tokens_in(encoded(GREY, "PNG")) == set()
    (tmp_path / "a").write_text(TEXT)
    assert leaks(tmp_path) == {"a": set(TOKENS)}


# ---- a whole run


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_run_writes_and_prints_none_of_it(tmp_path, capfd, workers):
    files = [str(planted.write(tmp_path / "data", name)) for name in NAMES]
    run = tmp_path / "run"
    assert main(["run", *files, "--out", str(run), "--workers", workers]) == 0
    assert main(["report", str(run)]) == 0
    said = capfd.readouterr()
    assert tokens_in((said.out + said.err).encode()) == set()
    assert leaks(run) == {}
    kept = Counter(row["source"] for row in rows(run, "records"))
    assert kept == {name: planted_.pictures for name, planted_ in sources().items()}
    left = Counter((row["id"].partition("/")[0], row["reason"]) for row in rows(run, "rejected/ingest"))
    assert left == {("films", "burned_in"): sources()["films"].held}
    assert {row["reader"] for record in rows(run, "records") for row in record["regions"]} == {None, "r1", "r2"}
    table = run / "private" / "cases.csv"
    assert tokens_in(table.read_bytes()) == set(TOKENS)
    assert stat.S_IMODE(table.stat().st_mode) == 0o600
    assert all(re.search(r"^[0-9a-f]{20}$", str(row["case"])) for row in rows(run, "records"))


class Listening(FakeOpenAI):
    """The fake server, which keeps all that it hears."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[bytes] = []

    async def _reply(self, request: web.Request) -> Reply:
        self.heard.append(f"{request.path_qs} {dict(request.headers)} ".encode() + await request.read())
        return await super()._reply(request)


def test_what_is_sent_to_a_model_holds_none_of_it(tmp_path, capfd):
    names = ("photos", "rows", "table", "labelstudio", "films", "volumes")
    files = [str(planted.write(tmp_path / "data", name)) for name in names]
    run = tmp_path / "run"
    with Listening() as server:
        flags = ["--backend", "openai_api", "--model", "fake-vlm"]
        flags += ["--base-url", server.url, "--workers", "1", "--language", "en", "--prompt", "caption"]
        assert main(["run", *files, "--out", str(run), *flags, "--prompt", "vqa_open"]) == 0
        heard = server.heard
    least = sum(sources()[name].pictures for name in names)
    assert len(heard) > 20  # equal pictures with equal facts are asked about once
    assert all(b"base64," in body for body in heard)
    assert any(b"pneumonia" in body for body in heard)
    assert set().union(*map(tokens_in, heard)) == set()
    said = capfd.readouterr()
    assert tokens_in((said.out + said.err).encode()) == set()
    assert leaks(run) == {}
    assert len(rows(run, "samples")) >= least


# ---- files that are damaged: their errors must not quote them


def cut(data: bytes, rng: np.random.Generator) -> bytes:
    return data[: len(data) * 6 // 10]


def flipped(data: bytes, rng: np.random.Generator) -> bytes:
    damaged = bytearray(data)
    for at in rng.integers(len(data), size=12).tolist():
        damaged[at] ^= 1 << int(rng.integers(8))
    return bytes(damaged)


def crossed(data: bytes, rng: np.random.Generator) -> bytes:
    """The texts stand where something else should, but not among the coded pixels of a JPEG: they would be pixels."""
    scan = data.find(b"\xff\xda") if data.startswith(b"\xff\xd8") else -1
    at = int(rng.integers(min(len(data), 600 if scan < 0 else scan)))
    return data[:at] + TEXT.encode() * 3 + data[at:]


@pytest.mark.parametrize("damage", [cut, flipped, crossed], ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_file_is_not_quoted(tmp_path, capfd, name, damage):
    rng = np.random.default_rng(len(name))
    whole = dict(sources()[name].files)
    tables = damage is crossed  # a table's header is told to who misnamed a column
    hurt = {path: data if tables and path.endswith(".csv") else damage(data, rng) for path, data in whole.items()}
    for n, files in enumerate((hurt, {**whole, **dict(list(hurt.items())[::2])})):
        folder = tmp_path / f"{n}"
        source, run = str(planted.write(folder, name, files=files)), folder / "run"
        status = main(["ingest", str(run), source, "--workers", "1"])
        assert status == 2 or (status == 0 and (damage is not cut or n or rows(run, "rejected/ingest")))
        said = capfd.readouterr()
        assert tokens_in((said.out + said.err).encode()) == set()
        assert not run.exists() or leaks(run) == {}


WORDS = {
    "a word of a grey map": ("a.pgm", b"P2\n20 16\n255\n7 7 " + TEXT.encode() + b" 7"),
    "the highest value of one": ("a.pgm", b"P2\n20 16\n" + TEXT.encode() + b"\n7 7 7"),
    "the width of one": ("a.pgm", b"P5\n" + TEXT.encode() + b" 16\n255\n7 7 7"),
    "chunks of a png": ("a.png", encoded(GREY, "PNG")[:33] + TEXT.encode() * 9),
}


@pytest.mark.parametrize(("name", "data"), WORDS.values(), ids=WORDS)
def test_a_picture_that_breaks_at_a_word_does_not_quote_it(data_set, name, data):
    assert tokens_in(data)
    toy = data_set('cases: {match: "a.*"}\nannotations: [{kind: classes, value: pneumonia}]\n', {name: data})
    (row,) = toy.rejected()
    assert row.level == "case"
    assert tokens_in(repr(row).encode()) == set()


# ---- pixels that show a name


SHOWN = 'cases: {match: "{stem}.dcm"}\nannotations: [{kind: classes, value: pneumonia}]\n'


def test_pixels_with_a_name_are_held_back_until_a_person_has_looked(data_set):
    data = {"a.dcm": planted.film(planted.drawn(), BurnedInAnnotation="YES"), "b.dcm": planted.film()}
    toy = data_set(SHOWN, data)
    assert toy.reasons() == {"a": ["burned_in"], "b": []}
    cleared = data_set(SHOWN + "privacy: {burned_in: cleared}\n", data).records()
    assert len(cleared) == 2  # what is held back can be read: the test above could fail
    assert set().union(*(tokens_in(record.picture.bytes) for record in cleared)) == set()


@pytest.mark.parametrize(
    "tags",
    [
        {"BurnedInAnnotation": "YES"},
        {"SOPClassUID": planted.SecondaryCaptureImageStorage, "Modality": "OT"},
        {"SOPClassUID": planted.UltrasoundImageStorage, "Modality": "US"},
        {"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]},
    ],
    ids=lambda tags: " ".join(tags),
)
def test_slices_with_a_name_are_held_back_too(data_set, tags):
    yaml = 'cases: {form: series, match: "s/*.dcm", id: s}\nslices: {pick: all}\n'
    yaml += "annotations: [{kind: classes, value: pneumonia}]\n"
    slices = planted._slices()
    for one in slices:
        for key, value in tags.items():
            setattr(one, key, value)
    toy = data_set(yaml, {f"s/{n}.dcm": planted.saved(one) for n, one in enumerate(slices)}, modality="ct")
    assert {row.reason for row in toy.rejected()} == {"burned_in"}
    assert toy.records() == []


def test_bits_above_the_pixels_do_not_show(data_set):
    """Older files hide overlays in the unused bits of their pixels."""
    plain = np.full((30, 40), 100, np.uint16)
    hidden = plain | (np.asarray(planted.drawn())[:30, :40] > 99).astype(np.uint16) << 12
    tags = {"BitsStored": 12, "HighBit": 11, "WindowCenter": "2000", "WindowWidth": "4000"}
    made = [written(lambda path, p=pixels: dicom_file(p, path, **tags), "a.dcm") for pixels in (plain, hidden)]
    one, other = data_set(SHOWN, {"a.dcm": made[0], "b.dcm": made[1]}).records()
    assert one.picture.sha256 == other.picture.sha256


# ---- who may see a picture


LICENSED = """schema: medgloss/1
id: licensed
title: A toy
license:
  name: "{t.license}"
  each: {open: {egress: any}, kept: {egress: local}, shut: {egress: none}, zero: {egress: zero_retention}, own: {}}
egress: local
root: licensed
modality: xray
cases: {match: "{stem}.png"}
tables: {t: {path: t.csv, key: file, match: "{name}"}}
annotations: [{kind: classes, value: pneumonia}]
"""


def licensed(folder: Path, licences: Mapping[str, str]) -> Path:
    (folder / "licensed").mkdir(parents=True)
    for n, name in enumerate(licences):
        (folder / "licensed" / f"{name}.png").write_bytes(encoded(np.roll(GREY, n, axis=1), "PNG"))
    table = "file,license\n" + "".join(f"{name}.png,{licence}\n" for name, licence in licences.items())
    (folder / "licensed" / "t.csv").write_text(table)
    (folder / "licensed.yaml").write_text(LICENSED)
    return folder / "licensed.yaml"


def sent_as(stored: bytes) -> str:
    """Return the digest of what is sent of a stored picture."""
    return pictures.sha256(pictures.for_request(stored, 1024, ())[0])


@pytest.mark.parametrize(
    ("host", "more", "sent"),
    [
        ("0.0.0.0", {}, {"open"}),  # reaches the server, and is no loopback address
        ("0.0.0.0", {"zero_retention": True}, {"open", "zero"}),
        ("0.0.0.0", {"allow_local_data": True}, {"open", "zero", "kept", "own"}),
        ("127.0.0.1", {}, {"open", "zero", "kept", "own"}),
    ],
)
def test_the_licence_of_each_picture_says_where_it_may_go(tmp_path, monkeypatch, host, more, sent):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x")
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    source = licensed(tmp_path / "data", {name: name for name in ("open", "kept", "shut", "zero", "own")})
    run = tmp_path / "run"
    with FakeOpenAI() as server:
        backend = {"backend": "openai_api", "model": "fake-vlm", "base_url": server.url.replace("127.0.0.1", host)}
        settings = {"backends": {"default": {**backend, **more}}, "languages": ["en"]}
        (tmp_path / "settings.yaml").write_text(pyyaml.safe_dump({**settings, "prompts": ["caption"]}))
        flags = ["--settings", str(tmp_path / "settings.yaml"), "--workers", "1"]
        assert main(["run", str(source), "--out", str(run), *flags]) == 0
        seen = {digest for asked in server.requests for digest in asked.image_hashes}
    case_of = {sent_as(row["picture"]["bytes"]): row["case"] for row in rows(run, "records")}
    assert len(case_of) == 5
    assert {case_of[digest] for digest in seen} == sent
    refused = {row["id"].split("/")[1] for row in rows(run, "rejected/generate")}
    assert refused == set(case_of.values()) - sent
    assert {row["reason"] for row in rows(run, "rejected/generate")} == {"egress"}


def test_a_licence_that_changes_takes_a_picture_back(tmp_path, monkeypatch):
    """What was sent once can not be called back, but nothing more is sent, and its samples go."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x")
    source, run = licensed(tmp_path / "data", {"a": "open", "b": "open"}), tmp_path / "run"
    with FakeOpenAI() as server:
        url = server.url.replace("127.0.0.1", "0.0.0.0")
        flags = ["--backend", "openai_api", "--model", "fake-vlm", "--base-url", url, "--workers", "1"]
        call = ["run", str(source), "--out", str(run), *flags, "--language", "en", "--prompt", "caption"]
        assert main(call) == 0
        assert len(rows(run, "samples")) == 2
        table = tmp_path / "data" / "licensed" / "t.csv"
        table.write_text(table.read_text().replace("b.png,open", "b.png,kept"))
        server.reset()
        assert main(call) == 0
        assert server.requests == []
    assert [row["records"] for row in rows(run, "samples")] == [["licensed/a/image"]]
