"""`medgloss preview` and the estimate of `medgloss plan`: what a record becomes, and what a run will cost."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline import plan, vocabulary
from pipeline.errors import UserError
from pipeline.estimate import estimate, table, text_tokens
from pipeline.generate import prompting, stage
from pipeline.ingest.source import Source
from pipeline.ingest.stage import read_case
from pipeline.preview import preview
from pipeline.records import Record
from pipeline.settings import BackendSpec, Settings

GPT = {"default": BackendSpec(backend="openai_api", model="gpt-4o")}
Show = Callable[..., str]


@pytest.fixture
def show(phantom_folder: Path, tmp_path: Path) -> Show:
    """Preview a phantom in English: `show("chest", case="normal", prompt="caption.plain")`."""

    def run(name: str, case: str | None = None, prompt: str | None = None, **settings: object) -> str:
        known = Settings.model_validate({"sources": (), "languages": ("en",), **settings})
        return preview(str(phantom_folder / f"{name}.yaml"), known, case, prompt, tmp_path)

    return run


def records(phantom_folder: Path, name: str) -> list[Record]:
    words = vocabulary.load()
    found = plan.open_source(str(phantom_folder / f"{name}.yaml"), Settings(sources=()), words)
    source = Source(found.descriptor, found.root, words)
    return [record for case in found.cases.cases for record in read_case(case, source).records]


def test_the_facts_of_a_slice_are_told(show: Show, phantom_folder: Path) -> None:
    lines = show("torso", prompt="caption.plain").splitlines()
    record = next(record for record in records(phantom_folder, "torso") if record.id == lines[0])
    assert record.picture is not None
    assert f"picture       136x104 px, sha256 {record.picture.sha256[:12]}" in lines
    for line in (
        "plane         axial",
        "window        soft_tissue -160..240",
        "spacing       2.75 mm",
        "modality      CT",
    ):
        assert line in lines
    kidney = next(region for region in record.regions if region.label == "kidney" and region.side == "left")
    assert kidney.box is not None
    box = " ".join(f"{value:.4g}" for value in kidney.box)
    assert re.search(rf"  kidney +left +{box} +{kidney.area_mm2:.1f} mm2", "\n".join(lines))


def test_of_a_case_the_record_with_most_labels_is_shown(show: Show, phantom_folder: Path) -> None:
    shown = show("torso", case="case_b", prompt="caption.plain").splitlines()[0]
    labels = {
        record.id: len({region.label for region in record.regions})
        for record in records(phantom_folder, "torso")
        if record.case == "case_b"
    }
    assert labels[shown] == max(labels.values())


def test_labels_that_were_looked_for_are_told_as_absent(show: Show) -> None:
    text = show("chest", case="normal", prompt="caption.plain")
    assert "absent        pleural effusion, pneumonia" in text
    assert "label space   3 labels, from 20 of 24 cases" in text


def test_a_case_is_found_by_its_beginning_and_a_record_by_its_id(show: Show, phantom_folder: Path) -> None:
    wanted = [record.id for record in records(phantom_folder, "torso")][3]
    assert show("torso", case=wanted, prompt="caption.plain").splitlines()[0] == wanted
    assert show("blood", case="smear_0", prompt="caption.plain").startswith("phantom_blood/smear_01/image\n")


def test_an_unknown_case_is_told_with_the_near_one(show: Show) -> None:
    with pytest.raises(UserError, match="no case 'smaer_03'; did you mean 'smear_03'"):
        show("blood", case="smaer_03")


def test_two_pictures_are_written_and_only_one_has_boxes(show: Show, tmp_path: Path, phantom_folder: Path) -> None:
    shown = show("blood", case="smear_02", prompt="caption.plain").splitlines()[0]
    record = next(record for record in records(phantom_folder, "blood") if record.id == shown)
    assert record.picture is not None
    plain, drawn = (np.asarray(Image.open(tmp_path / name)) for name in ("picture.png", "boxes.png"))
    assert plain.shape == drawn.shape == (360, 480, 3)
    red = (drawn == (255, 65, 54)).all(axis=2)
    box = record.regions[0].box
    assert box is not None
    assert red[int(box.y0), int(box.x0)]
    assert not (plain == (255, 65, 54)).all(axis=2).any()


def test_boxes_are_drawn_on_a_copy_that_is_large_enough_to_read(show: Show, tmp_path: Path) -> None:
    show("torso", case="case_a", prompt="caption.plain")
    with Image.open(tmp_path / "picture.png") as plain, Image.open(tmp_path / "boxes.png") as drawn:
        assert plain.size == (136, 104)
        assert drawn.size == (5 * 136, 5 * 104)


def test_a_template_prompt_shows_the_sample_that_it_makes(show: Show) -> None:
    text = show("chest", case="pneumonia", prompt="perception.modality")
    reply = json.loads(text.partition("---- assistant\n")[2].partition("\n---- reply schema")[0])
    assert reply["question"] in text.partition("---- sample user\n")[2]
    assert text.endswith("---- sample assistant\nX-ray\n---- answer (exact)\nX-ray")
    assert "answered by   template" in text


def test_a_model_prompt_is_rendered_with_the_key_that_the_run_will_use(show: Show, phantom_folder: Path) -> None:
    text = show("blood", case="smear_03", prompt="caption", backends=GPT)
    found = records(phantom_folder, "blood")
    record = next(record for record in found if record.case == "smear_03")
    words = vocabulary.load()
    (ask,) = stage.plan([record], prompting.load(["caption"], ["en"]), words, (), "0")
    request = prompting.request(ask, "gpt-4o", 1024)
    assert f"request key   {request.key}" in text
    assert f"---- system\n{request.messages[0].content}\n---- user\n{request.messages[1].content}\n" in text
    assert json.dumps(request.schema, sort_keys=True) in text
    assert "sent picture  longest side at most 1024 px, 0 boxes drawn" in text


def test_without_a_model_a_model_prompt_has_no_key(show: Show) -> None:
    text = show("blood", prompt="caption")
    assert "answered by   no model is set: give --backend and --model" in text
    assert "request key   depends on the model" in text


def test_a_prompt_that_does_not_apply_says_which_fact_is_missing(show: Show) -> None:
    assert show("chest", prompt="perception.plane").endswith("perception.plane.en does not apply: it needs plane")
    assert "does not apply" not in show("torso", prompt="perception.plane")


def test_without_a_prompt_all_are_shown_and_those_left_out_are_listed(show: Show) -> None:
    text = show("chest", case="normal")
    shown = set(re.findall(r"^==== ([\w.]+)\.en@", text, re.MULTILINE))
    left_out = set(re.findall(r"^([\w.]+)\.en does not apply", text, re.MULTILINE))
    assert shown | left_out == set(prompting.available())
    assert {"caption", "caption.plain"} <= shown
    assert "perception.plane" in left_out


def test_an_unknown_prompt_is_told_with_the_near_one(show: Show) -> None:
    with pytest.raises(UserError, match="unknown prompt 'captoin'; did you mean 'caption'"):
        show("chest", prompt="captoin")


# ---- the estimate


def cells(text: str, first: str) -> list[str]:
    """Return the cells of a table's row."""
    line = next(line for line in text.splitlines() if line.startswith(first))
    return re.split(r" {2,}", line)


def resolved(phantom_folder: Path, names: list[str], **settings: object) -> plan.RunPlan:
    sources = [str(phantom_folder / f"{name}.yaml") for name in names]
    return plan.resolve(Settings.model_validate({"sources": sources, "languages": ["en"], **settings}))


def test_a_source_that_is_read_whole_is_counted_exactly(phantom_folder: Path) -> None:
    run = resolved(phantom_folder, ["torso"])
    found = records(phantom_folder, "torso")
    asks = stage.plan(found, run.prompts, run.vocabulary, plan_space(found), "0")
    text = estimate(run, limit=2)
    assert cells(text, "phantom_torso") == [
        "phantom_torso", "2", "2", str(len(found)), str(len(asks)), "0", "0", "0 (no model)"
    ]  # fmt: skip
    kinds = {ask.prompt.head.kind for ask in asks}
    for kind in kinds:
        of_kind = sum(ask.prompt.head.kind == kind for ask in asks)
        assert cells(text, kind)[1:3] == ["template", str(of_kind)]


def plan_space(found: list[Record]) -> tuple[stage.Label, ...]:
    pairs = {(region.label, region.side) for record in found for region in record.regions if region.label}
    return tuple(stage.Label(*pair) for pair in sorted(pairs, key=lambda pair: (pair[0], pair[1] or "")))


def test_a_source_of_which_some_is_read_is_told_as_about(phantom_folder: Path) -> None:
    text = estimate(resolved(phantom_folder, ["chest"], prompts=["caption.plain"]), limit=3)
    assert cells(text, "phantom_chest")[1:5] == ["24", "3", "about 24", "about 24"]


def test_tokens_and_cost_are_those_of_text_picture_and_allowed_reply(phantom_folder: Path) -> None:
    run = resolved(phantom_folder, ["blood"], prompts=["caption"], backends=GPT, max_side=240)
    text = estimate(run, limit=12)
    asks = stage.plan(records(phantom_folder, "blood"), run.prompts, run.vocabulary, (), "0")
    requests = [prompting.request(ask, "gpt-4o", 240) for ask in asks]
    words = sum(len(message.content) / 4 for request in requests for message in request.messages)
    tokens_in, tokens_out = words + 12 * (85 + 170), 12 * 0.6 * 700  # 240x180 px: one tile
    row = cells(text, "phantom_blood")
    assert row[4] == "12"
    assert int(row[5].removeprefix("about ").replace(",", "")) == pytest.approx(tokens_in, rel=0.1)
    assert row[6] == f"about {tokens_out:,.0f}"
    dollars = (tokens_in * 2.5 + tokens_out * 10) / 1e6
    assert float(row[7].removeprefix("about $")) == pytest.approx(dollars, rel=0.1)
    assert cells(text, "total")[4:] == row[4:]


def test_an_unknown_price_is_unknown_and_never_nothing(phantom_folder: Path) -> None:
    backends = {"default": BackendSpec(backend="openai_api", model="mystery-1")}
    text = estimate(resolved(phantom_folder, ["chest"], prompts=["caption", "caption.plain"], backends=backends))
    assert cells(text, "phantom_chest")[-1] == "unknown"
    assert cells(text, "total")[-1] == "unknown"
    assert "The price of mystery-1 is not known" in text
    assert [cells(line, "caption")[-1] for line in text.splitlines() if line.startswith("caption")] == [
        "0 (no model)",
        "unknown",
    ]


def test_requests_that_egress_forbids_cost_nothing_and_are_told(phantom_folder: Path) -> None:
    text = (phantom_folder / "chest.yaml").read_text().replace("egress: any", "egress: local")
    (phantom_folder / "secret.yaml").write_text(text)
    run = resolved(phantom_folder, ["secret"], prompts=["caption"], backends=GPT)
    found = estimate(run, limit=24)
    assert "phantom_chest: 24 requests will be rejected: the source's egress does not allow their endpoint" in found
    assert cells(found, "phantom_chest")[4:] == ["24", "about 0", "about 0", "about $0.00"]


def test_chinese_takes_more_tokens_a_character() -> None:
    assert text_tokens("abcdefgh") == 2.0
    assert text_tokens("这是肝脏的一幅图像，") == pytest.approx(10 / 1.5)


def test_a_table_stands_in_columns() -> None:
    assert table([("a", "n"), ("bb", "12"), ("c", "3")]) == "a    n\nbb  12\nc    3"
