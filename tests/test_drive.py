"""A run: what is redone and what is not, and that nothing is lost when it is killed."""

import hashlib
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq
import pytest
from fake_openai import FakeOpenAI

from pipeline.cli import main

KEPT = ("records", "samples", "curated", "dataset")


@pytest.fixture
def demo(phantom_folder: Path, tmp_path: Path) -> Path:
    """Phantoms of its own, file times kept, so that a test may change them."""
    folder = tmp_path / "data"
    shutil.copytree(phantom_folder, folder)
    return folder


def digests(run: Path) -> dict[str, str]:
    """Return file to sha256 of all that must be the same in every run."""
    files = [file for kind in KEPT for file in sorted((run / kind).rglob("*")) if file.is_file()]
    return {str(file.relative_to(run)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def times(run: Path) -> dict[str, int]:
    return {str(f.relative_to(run)): f.stat().st_mtime_ns for f in sorted(run.rglob("*.parquet"))}


def rows(run: Path, kind: str) -> int:
    return sum(pq.read_metadata(file).num_rows for file in (run / kind).rglob("*.parquet"))


def test_the_same_command_again_does_nothing_and_says_so(
    demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    call = ["run", str(demo / "chest.yaml"), str(demo / "torso.yaml"), "--out", str(tmp_path / "run"), "--workers", "1"]
    assert main(call) == 0
    before = {**times(tmp_path / "run"), "report": (tmp_path / "run/report.html").stat().st_mtime_ns}
    capsys.readouterr()
    assert main(call) == 0
    assert "nothing to do: everything is up to date" in capsys.readouterr().out
    assert {**times(tmp_path / "run"), "report": (tmp_path / "run/report.html").stat().st_mtime_ns} == before


def test_stages_one_by_one_make_the_same_files_as_run(demo: Path, tmp_path: Path):
    source = str(demo / "blood.yaml")
    assert main(["run", source, "--out", str(tmp_path / "a"), "--workers", "1"]) == 0
    assert main(["ingest", str(tmp_path / "b"), source, "--workers", "1"]) == 0
    for stage in ("generate", "curate", "export"):
        assert main([stage, str(tmp_path / "b"), "--workers", "1"]) == 0
    assert digests(tmp_path / "a") == digests(tmp_path / "b")


def test_a_stage_before_its_time_says_what_to_run_first(demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["curate", str(tmp_path / "run")]) == 2
    assert "begin with `medgloss ingest" in capsys.readouterr().err
    assert main(["ingest", str(tmp_path / "run"), str(demo / "blood.yaml"), "--workers", "1"]) == 0
    assert main(["curate", str(tmp_path / "run")]) == 2
    assert "curate: 1 shards have not been through generate" in capsys.readouterr().err


def test_later_stages_and_the_report_need_no_data(demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = tmp_path / "run"
    assert main(["ingest", str(run), str(demo / "blood.yaml"), "--workers", "1"]) == 0
    shutil.rmtree(demo)
    monkeypatch.chdir(tmp_path)
    for stage in ("generate", "curate", "export"):
        assert main([stage, "run", "--workers", "1"]) == 0
    (run / "report.html").unlink()
    assert main(["report", "run"]) == 0
    assert "phantom_blood" in (run / "report.html").read_text()


def test_one_added_case_touches_one_shard(demo: Path, tmp_path: Path):
    call = [
        "run",
        str(demo / "chest.yaml"),
        "--out",
        str(tmp_path / "run"),
        *["--shards", "phantom_chest=8", "--workers", "1"],
    ]
    assert main(call) == 0
    before = times(tmp_path / "run")
    table = demo / "chest" / "labels.csv"
    first = table.read_text().splitlines()[1].split(",")
    shutil.copy(next((demo / "chest" / "normal").glob("*.png")), demo / "chest" / "normal" / "added.png")
    with table.open("a") as file:
        file.write(",".join(["added.png", "patient-added", *first[2:]]) + "\n")
    assert main(call) == 0
    after = times(tmp_path / "run")
    changed = {file for file in after if before.get(file) != after[file]}
    assert len({file for file in changed if file.startswith("records/")}) == 1
    assert len({file for file in changed if file.startswith("samples/")}) == 1
    assert rows(tmp_path / "run", "records") == 25


def test_one_added_coco_picture_touches_one_shard(demo: Path, tmp_path: Path):
    call = [
        "run",
        str(demo / "blood.yaml"),
        "--out",
        str(tmp_path / "run"),
        *["--shards", "phantom_blood=4", "--workers", "1"],
    ]
    assert main(call) == 0
    before = times(tmp_path / "run")
    path = demo / "blood" / "annotations.json"
    coco = json.loads(path.read_text())
    image = dict(coco["images"][0], id=999, file_name="added.png")
    shutil.copy(demo / "blood" / "images" / Path(coco["images"][0]["file_name"]).name, demo / "blood/images/added.png")
    coco["images"].append(image)
    coco["annotations"].append(dict(coco["annotations"][0], id=99999, image_id=999))
    path.write_text(json.dumps(coco))
    assert main(call) == 0
    after = times(tmp_path / "run")
    assert len({f for f in after if before.get(f) != after[f] and f.startswith("records/")}) == 1


def test_a_changed_window_redoes_that_source_and_nothing_else(demo: Path, tmp_path: Path):
    call = ["run", str(demo / "torso.yaml"), str(demo / "blood.yaml"), "--out", str(tmp_path / "run"), "--workers", "1"]
    assert main(call) == 0
    before = times(tmp_path / "run")
    text = (demo / "torso.yaml").read_text()
    assert "soft_tissue" in text
    (demo / "torso.yaml").write_text(text.replace("soft_tissue", "lung"))
    assert main(call) == 0
    after = times(tmp_path / "run")
    changed = {file for file in after if before[file] != after[file] and not file.startswith("dataset/")}
    assert changed
    assert all("phantom_torso" in file for file in changed)


def test_a_changed_title_redoes_only_the_export(demo: Path, tmp_path: Path):
    call = ["run", str(demo / "blood.yaml"), "--out", str(tmp_path / "run"), "--workers", "1"]
    assert main(call) == 0
    before = times(tmp_path / "run")
    text = (demo / "blood.yaml").read_text()
    (demo / "blood.yaml").write_text(text.replace("title:", "title: New", 1))
    assert main(call) == 0
    after = times(tmp_path / "run")
    assert {f.split("/")[0] for f in after if before[f] != after[f]} == {"dataset"}


def test_a_changed_prompt_redoes_generation_and_not_ingest(demo: Path, tmp_path: Path):
    prompt = tmp_path / "mine.en.md"
    original = (Path(__file__).parents[1] / "prompts" / "caption.plain.en.md").read_text()
    prompt.write_text(original)
    call = ["run", str(demo / "blood.yaml"), "--out", str(tmp_path / "run"), "--workers", "1", "--language", "en"]
    call += ["--prompt", str(prompt), "--prompt", "perception.modality"]
    assert main(call) == 0
    before = times(tmp_path / "run")
    prompt.write_text(original.replace("Give a short caption.", "Caption it."))
    assert main(call) == 0
    after = times(tmp_path / "run")
    assert {f.split("/")[0] for f in after if before[f] != after[f]} >= {"samples", "dataset"}
    assert all(before[f] == after[f] for f in after if f.startswith("records/"))


def test_a_case_that_is_gone_leaves_nothing_behind(demo: Path, tmp_path: Path):
    call = [
        "run",
        str(demo / "torso.yaml"),
        "--out",
        str(tmp_path / "run"),
        *["--shards", "phantom_torso=8", "--workers", "1"],
    ]
    assert main(call) == 0
    assert len(list((tmp_path / "run" / "records").rglob("*.parquet"))) == 2
    shutil.rmtree(demo / "torso" / "case_b")
    assert main(call) == 0
    for kind in ("records", "samples", "curated"):
        assert len(list((tmp_path / "run" / kind).rglob("*.parquet"))) == 1
    assert "case_b" not in str(pq.read_table(tmp_path / "run/dataset/data/records")["record_id"].to_pylist())


def drop_one_row(file: Path) -> None:
    table = pq.read_table(file)
    pq.write_table(table.slice(1), file)


@pytest.mark.parametrize(
    ("kind", "ledger"),
    [
        ("records", "pictures"),
        ("samples", "requests"),
        ("rejected/ingest", "regions"),
        ("rejected/generate", "requests"),
    ],
)
def test_a_row_that_goes_missing_fails_the_run(
    demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, ledger: str
):
    coco = json.loads((demo / "blood/annotations.json").read_text())
    coco["annotations"][0]["bbox"] = [5, 5, 0, 0]
    (demo / "blood/annotations.json").write_text(json.dumps(coco))
    call = ["run", str(demo / "blood.yaml"), "--out", str(tmp_path / "run"), "--workers", "1", "--language", "en"]
    with FakeOpenAI(faults=lambda h, n, text: "refusal" if h[0] in "01" else None) as server:
        call += ["--backend", "openai_api", "--model", "fake-vlm", "--base-url", server.url, "--prompt", "caption"]
        assert main(call) == 0
    file = next(file for file in (tmp_path / "run" / kind).rglob("*.parquet") if pq.read_metadata(file).num_rows)
    drop_one_row(file)
    capsys.readouterr()
    assert main(call) == 3
    said = capsys.readouterr().err
    assert "the ledgers do not balance" in said
    assert f"{ledger}: " in said
    assert f"not as written: {file.relative_to(tmp_path / 'run')}" in said
    before = hashlib.sha256((tmp_path / "run/dataset/manifest.json").read_bytes()).hexdigest()
    file.unlink()
    with FakeOpenAI(faults=lambda h, n, text: "refusal" if h[0] in "01" else None) as server:
        call[call.index("--base-url") + 1] = server.url
        assert main(call) == 0  # removed and made again, as the message says; the journal pays for the rest
        assert server.stats()["ok"] == 0
    assert hashlib.sha256((tmp_path / "run/dataset/manifest.json").read_bytes()).hexdigest() == before


def test_a_lost_row_of_the_splits_fails_the_run_and_the_report(demo: Path, tmp_path: Path):
    call = ["run", str(demo / "chest.yaml"), "--out", str(tmp_path / "run"), "--workers", "1", "--language", "en"]
    assert main(call) == 0
    drop_one_row(next((tmp_path / "run" / "curated").rglob("*.parquet")))
    assert main(call) == 3
    assert main(["report", str(tmp_path / "run")]) == 3


def test_a_run_that_lost_a_row_is_not_exported(demo: Path, tmp_path: Path):
    call = ["run", str(demo / "chest.yaml"), "--out", str(tmp_path / "run"), "--workers", "1", "--language", "en"]
    assert main(call) == 0
    before = digests(tmp_path / "run")
    drop_one_row(next((tmp_path / "run" / "samples").rglob("*.parquet")))
    assert main([*call, "--split", "train=1"]) == 3
    after = digests(tmp_path / "run")
    assert [file for file in before if before[file] != after[file]] == ["samples/phantom_chest/00000-of-00001.parquet"]


def test_a_lost_case_row_fails_the_run(demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    table = demo / "chest" / "labels.csv"
    table.write_text(table.read_text() + "gone.png,p99,F,PA,normal\n")
    call = ["run", str(demo / "chest.yaml"), "--out", str(tmp_path / "run"), "--workers", "1"]
    assert main(call) == 0
    assert "cases: 25 = 24 kept + 1 rejected" in capsys.readouterr().out
    drop_one_row(next((tmp_path / "run/rejected/ingest").rglob("*.parquet")))
    assert main(call) == 3
    assert "cases: 25 ≠ 24 kept + 0 rejected" in capsys.readouterr().err


def test_two_runs_in_one_folder_are_refused(demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    import fcntl

    (tmp_path / "run").mkdir()
    with (tmp_path / "run" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert main(["run", str(demo / "blood.yaml"), "--out", str(tmp_path / "run")]) == 2
    assert "another run is working in this folder" in capsys.readouterr().err


def test_two_workers_make_the_same_files_as_one(demo: Path, tmp_path: Path):
    sources = [str(demo / name) for name in ("chest.yaml", "torso.yaml", "torso_dicom.yaml")]
    for workers in ("1", "2"):
        assert main(["run", *sources, "--out", str(tmp_path / workers), "--workers", workers]) == 0
    assert digests(tmp_path / "1") == digests(tmp_path / "2")


def start(arguments: list[str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "pipeline.cli", *arguments]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)


IN_FLIGHT = 16
"""The default of --concurrency."""


class Kill(NamedTuple):
    paying: bool
    """It fell while replies were paid for."""
    repeats: int
    """Replies that may have to be paid again: in flight, and what came in the last half second."""


def killed(arguments: list[str], server: FakeOpenAI, seconds: float, replies: float) -> Kill:
    """Start a run and SIGKILL it after so many seconds, or once the server has sent so many replies in all."""
    process, began = start(arguments), server.stats()["ok"]
    until, seen = time.monotonic() + seconds, [(time.monotonic(), began)]
    while process.poll() is None and time.monotonic() < until and seen[-1][1] < replies:
        time.sleep(0.01)
        seen.append((time.monotonic(), server.stats()["ok"]))
    paying = process.poll() is None and seen[-1][1] > began
    process.kill()
    process.communicate()
    time.sleep(0.7)  # the workers of a killed driver end by themselves
    earlier = max((ok for at, ok in seen if at < seen[-1][0] - 0.5), default=began)
    return Kill(paying, IN_FLIGHT + server.stats()["ok"] - earlier)


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_after_sigkill_at_several_points_the_files_are_those_of_an_undisturbed_run(
    demo: Path, tmp_path: Path, workers: str
):
    sources = [str(demo / name) for name in ("chest.yaml", "blood.yaml", "torso.yaml")]
    with FakeOpenAI(latency_s=0.01) as server:
        model = ["--backend", "openai_api", "--model", "fake-vlm", "--base-url", server.url, "--workers", workers]
        shards = ["--shards", "phantom_chest=4", "--shards", "phantom_blood=2", "--shards", "phantom_torso=2"]
        undisturbed, disturbed = tmp_path / "a" / "run", tmp_path / "b" / "run"
        assert main(["run", *sources, "--out", str(undisturbed), *model, *shards]) == 0
        distinct = server.stats()["distinct"]
        server.reset()
        again = ["run", *sources, "--out", str(disturbed), *model, *shards]
        shares = ((1.5, 1), (60, 0.1), (60, 0.4), (60, 0.8), (3, 1), (4, 1))
        kills = [killed(again, server, seconds, share * distinct) for seconds, share in shares]
        assert sum(kill.paying for kill in kills) >= 3
        final = start(again)
        assert final.wait(120) == 0, final.communicate()[1].decode()
        final.communicate()
        stats = server.stats()
    assert digests(disturbed) == digests(undisturbed)
    assert stats["distinct"] == distinct
    assert stats["requests"] - stats["distinct"] <= sum(kill.repeats for kill in kills)
    assert not list(disturbed.rglob("*.part"))


def test_a_source_that_is_left_out_is_no_part_of_later_stages(demo: Path, tmp_path: Path):
    both = [str(demo / "blood.yaml"), str(demo / "chest.yaml")]
    assert main(["run", *both, "--out", str(tmp_path / "run"), "--workers", "1"]) == 0
    assert main(["run", both[0], "--out", str(tmp_path / "run"), "--workers", "1"]) == 0
    before = digests(tmp_path / "run")
    assert main(["export", str(tmp_path / "run")]) == 0
    assert digests(tmp_path / "run") == before
    assert set(pq.read_table(tmp_path / "run/dataset/data/records")["source"].to_pylist()) == {"phantom_blood"}
    assert main(["run", *both, "--out", str(tmp_path / "run"), "--workers", "1"]) == 0


def test_a_file_of_the_training_set_that_is_gone_is_written_again(demo: Path, tmp_path: Path):
    call = ["run", str(demo / "blood.yaml"), "--out", str(tmp_path / "run"), "--workers", "1", "--language", "en"]
    assert main(call) == 0
    before = digests(tmp_path / "run")
    next((tmp_path / "run" / "dataset" / "data" / "default").glob("*.parquet")).unlink()
    assert main(call) == 0
    assert digests(tmp_path / "run") == before


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_run_that_is_told_to_end_writes_down_all_that_was_paid(demo: Path, tmp_path: Path, number: int, workers: str):
    call = ["run", str(demo / "chest.yaml"), "--out", str(tmp_path / "run"), "--workers", workers]
    with FakeOpenAI(latency_s=0.1) as server:
        flags = ["--backend", "openai_api", "--model", "fake-vlm", "--base-url", server.url, "--concurrency", "4"]
        process = start([*call, *flags, "--shards", "phantom_chest=4"])
        until = time.monotonic() + 60
        while server.stats()["ok"] < 20 and time.monotonic() < until:
            time.sleep(0.05)
        process.send_signal(number)
        said = process.communicate(timeout=60)[1].decode()
        assert process.returncode == 130
        assert said == "medgloss: interrupted; what is done is kept, run again to go on\n"
        paid = server.stats()["ok"]
    lines = [line for file in (tmp_path / "run/journal").glob("*.jsonl") for line in file.read_text().splitlines()]
    assert sum(json.loads(line)["outcome"] == "ok" for line in lines) == paid


@pytest.mark.parametrize("kind", ["records", "samples", "curated", "rejected/ingest"])
@pytest.mark.parametrize("content", [b"", b"garbage"])
def test_a_file_that_is_no_parquet_any_more_is_named_in_one_line(
    demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, content: bytes
):
    call = ["run", str(demo / "blood.yaml"), "--out", str(tmp_path / "run"), "--workers", "1", "--language", "en"]
    assert main(call) == 0
    before = digests(tmp_path / "run")
    file = next((tmp_path / "run" / kind).rglob("*.parquet"))
    file.write_bytes(content)
    capsys.readouterr()
    assert main(call) == 3
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"not as written: {file.relative_to(tmp_path / 'run')}" in said
    file.unlink()
    assert main(call) == 0
    assert digests(tmp_path / "run") == before


def test_damaged_text_files_of_the_run_folder_are_one_line_or_mended(demo: Path, tmp_path: Path, capsys):
    run = tmp_path / "run"
    call = ["run", str(demo / "blood.yaml"), "--out", str(run), "--workers", "1", "--language", "en"]
    assert main(call) == 0
    (run / "sources" / "phantom_blood.yaml").write_bytes(b"\xff\xfe")
    assert main(["curate", str(run)]) == 2
    assert "is not UTF-8" in capsys.readouterr().err
    assert main(call) == 0
    with (run / "manifest.jsonl").open("a") as file:
        file.write('{"file": "x"}\n[1]\nnot json\n')
    assert main(call) == 0
    for content in (b"\xff", b"", b"- a\n"):
        (run / "run.yaml").write_bytes(content)
        assert main(["curate", str(run)]) == 2
        assert capsys.readouterr().err.count("\n") == 1
