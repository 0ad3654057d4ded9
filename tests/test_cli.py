"""The command line: every mistake is one line and exit status 2."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.cli import main
from pipeline.strict import load_yaml


@pytest.fixture
def demo(phantom_folder: Path) -> Path:
    return phantom_folder


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run, expect status 2 and one line."""
    assert main(list(arguments)) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "Traceback" not in said
    return said.strip()


def test_no_source(capsys):
    assert "name a source" in refused(capsys, "run")


def test_an_unknown_source_gets_the_near_name(capsys, tmp_path):
    assert "unknown source 'bccdd'" in refused(capsys, "run", "bccdd", "--out", str(tmp_path))


def test_a_descriptor_that_is_not_there(capsys, tmp_path):
    assert "no such file" in refused(capsys, "run", str(tmp_path / "x.yaml"), "--out", str(tmp_path / "run"))


def test_a_misspelt_key_of_a_descriptor(capsys, tmp_path, demo):
    path = tmp_path / "x.yaml"
    path.write_text((demo / "blood.yaml").read_text().replace("modality:", "modalty:", 1))
    assert "did you mean 'modality'?" in refused(capsys, "run", str(path), "--out", str(tmp_path / "run"))


def test_data_that_is_not_there(capsys, tmp_path, demo):
    (tmp_path / "blood.yaml").write_text((demo / "blood.yaml").read_text())
    assert "no such folder" in refused(capsys, "run", str(tmp_path / "blood.yaml"), "--out", str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--prompt", "captoin.plain"], "did you mean 'caption.plain'?"),
        (["--language", "fr"], "unknown language 'fr'"),
        (["--backend", "openai"], "did you mean 'openai_api'?"),
        (["--backend", "openai_api"], "--backend openai_api needs --model"),
        (["--model", "gpt-4o"], "--model: nothing without a model; say --backend openai_api"),
        (["--concurrency", "x"], "--concurrency: nothing without a model"),
        (["--backend", "openai_api", "--model", "m", "--base-url", "foo"], "should be an address"),
        (["--backend", "openai_api", "--model", "m", "--base-url", "http://u:p@x/v1"], "must not hold a user"),
        (["--shards", "phantom_bloood=2"], "--shards phantom_bloood: no source of this run; did you mean"),
        (["--root", "foo=/tmp"], "--root foo: no source of this run"),
        (["--shards", "phantom_blood=0"], "greater than or equal to 1"),
        (["--prompt", "caption"], "prompt caption needs a model"),
        (["--split", "train=0.5", "--split", "test=0.2"], "splits must add up to 1"),
        (["--split", "train"], "should be NAME=VALUE"),
        (["--workers", "0"], "greater than or equal to 1"),
        (["--concurrency", "many", "--backend", "openai_api", "--model", "m"], "concurrency"),
        (["--executor", "slurm"], "executor"),
        (["--settings", "nowhere.yaml"], "nowhere.yaml: No such file"),
    ],
)
def test_mistakes_in_flags(capsys, tmp_path, demo, flags, said):
    assert said in refused(capsys, "run", str(demo / "blood.yaml"), "--out", str(tmp_path / "run"), *flags)


def test_an_unknown_key_of_a_settings_file(capsys, tmp_path, demo):
    (tmp_path / "s.yaml").write_text("langages: [en]\n")
    said = refused(capsys, "run", str(demo / "blood.yaml"), "--settings", str(tmp_path / "s.yaml"))
    assert "did you mean 'languages'?" in said


def test_settings_from_a_file_are_used_and_flags_go_before_them(tmp_path, demo):
    (tmp_path / "s.yaml").write_text("languages: [zh]\nseed: 7\nmax_side: 512\n")
    call = ["ingest", str(tmp_path / "run"), str(demo / "blood.yaml"), "--settings", str(tmp_path / "s.yaml")]
    assert main([*call, "--seed", "8", "--workers", "1"]) == 0
    text = (tmp_path / "run" / "run.yaml").read_text()
    assert "languages:\n- zh" in text
    assert "seed: '8'" in text
    assert "max_side: 512" in text


def test_a_key_is_wanted_before_the_first_request(capsys, tmp_path, demo, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    call = ["run", str(demo / "blood.yaml"), "--out", str(tmp_path / "run"), "--workers", "1"]
    assert main([*call, "--backend", "openai_api", "--model", "gpt-4o"]) == 2
    assert "set OPENAI_API_KEY to the key for api.openai.com" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_file_where_a_folder_should_be(capsys, tmp_path, demo):
    (tmp_path / "file").touch()
    assert "is a file; name a folder" in refused(capsys, "demo-data", str(tmp_path / "file"))
    assert "Not a directory" in refused(capsys, "run", str(demo / "blood.yaml"), "--out", str(tmp_path / "file" / "x"))


def test_a_relative_run_folder_inside_a_ray_job_is_refused(capsys, demo, monkeypatch):
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    said = refused(capsys, "run", str(demo / "blood.yaml"), "--out", "runs/x")
    assert "inside a Ray job give an absolute path" in said


def test_a_folder_that_hides_our_packages_is_refused(capsys, tmp_path, monkeypatch):
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "__init__.py").touch()
    monkeypatch.chdir(tmp_path)
    assert "hides medgloss's own package 'outputs'" in refused(capsys, "list")


def test_a_report_of_what_is_no_run(capsys, tmp_path):
    assert "is no run folder" in refused(capsys, "report", str(tmp_path))


def test_ids_that_are_hashed_need_a_key(capsys, tmp_path, demo, monkeypatch):
    monkeypatch.delenv("MEDGLOSS_ID_KEY", raising=False)
    text = (demo / "blood.yaml").read_text() + "\nprivacy: {hash_ids: true}\n"
    path = tmp_path / "hashed.yaml"
    path.write_text(text.replace("root: blood", f"root: {demo / 'blood'}"))
    assert "set MEDGLOSS_ID_KEY" in refused(capsys, "run", str(path), "--out", str(tmp_path / "run"))
    monkeypatch.setenv("MEDGLOSS_ID_KEY", "a secret of the hospital")
    assert main(["ingest", str(tmp_path / "run"), str(path), "--workers", "1"]) == 0
    private = tmp_path / "run" / "private" / "cases.csv"
    assert private.read_text().startswith("source,id,case\n")
    assert private.stat().st_mode & 0o777 == 0o600


def test_a_full_disk_is_one_line(capsys, tmp_path, demo):
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    (tmp_path / "run" / "records" / "phantom_blood").mkdir(parents=True)
    part = tmp_path / "run" / "records" / "phantom_blood" / "00000-of-00001.parquet.part"
    part.symlink_to("/dev/full")
    assert main(["ingest", str(tmp_path / "run"), str(demo / "blood.yaml"), "--workers", "1"]) == 3
    assert "no room is left; run again when there is room" in capsys.readouterr().err


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    for command in (
        "run",
        "plan",
        "init",
        "check",
        "preview",
        "list",
        "report",
        "demo-data",
        "doctor",
        "ingest",
        "export",
    ):
        assert f"\n    {command}" in shown


def test_list_schema_and_doctor_print(capsys):
    assert main(["list"]) == 0
    assert "openai_api, template" in capsys.readouterr().out
    assert main(["schema"]) == 0
    assert '"medgloss/1"' in capsys.readouterr().out
    assert main(["doctor"]) in (0, 1)
    assert "python: 3." in capsys.readouterr().out


def test_init_proposes_a_descriptor_that_check_opens(capsys, tmp_path, demo):
    out = tmp_path / "mine.yaml"
    assert main(["init", str(demo / "blood"), "--out", str(out)]) == 0
    assert capsys.readouterr().out.startswith(f"{out}: coco, cases: 12; edit the lines with say:")
    assert "unknown modality 'SAY which" in refused(capsys, "check", str(out))
    lines = [line if "SAY" not in line else "modality: microscopy" for line in out.read_text().splitlines()]
    out.write_text("\n".join(lines))
    assert main(["check", str(out)]) == 0
    assert "12 listed, 12 with a picture" in capsys.readouterr().out


def test_init_without_out_prints_yaml_and_writes_nothing(capsys, tmp_path, demo, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["init", str(demo / "chest")]) == 0
    shown = load_yaml(capsys.readouterr().out, "stdout")
    assert (tmp_path / shown["root"]).resolve() == (demo / "chest").resolve()
    assert [note["kind"] for note in shown["annotations"]] == ["classes"]
    assert list(tmp_path.iterdir()) == []


def test_mistakes_in_init(capsys, tmp_path, demo):
    assert "no such folder" in refused(capsys, "init", str(tmp_path / "nowhere"))
    assert "nothing here that medgloss can read: no files" in refused(capsys, "init", str(tmp_path))
    assert "should end in .yaml" in refused(capsys, "init", str(demo / "blood"), "--out", str(tmp_path / "x.yml"))
    (tmp_path / "x.yaml").write_text("mine")
    assert "is there already" in refused(capsys, "init", str(demo / "blood"), "--out", str(tmp_path / "x.yaml"))
    assert (tmp_path / "x.yaml").read_text() == "mine"


def test_plan_counts_without_writing(capsys, tmp_path, demo, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["plan", str(demo / "chest.yaml")]) == 0
    shown = capsys.readouterr().out
    assert "24" in shown
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("way", ["file", "module", "elsewhere"])
def test_run_py_starts_as_a_file_as_a_module_and_from_elsewhere(way, tmp_path):
    checkout = Path(__file__).parents[1]
    command = {
        "file": ["pipeline/run.py", "list"],
        "module": ["-m", "pipeline.run", "list"],
        "elsewhere": [str(checkout / "pipeline" / "run.py"), "list"],
    }[way]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    folder = tmp_path if way == "elsewhere" else checkout
    done = subprocess.run([sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "annotation kinds" in done.stdout


def test_run_py_is_executable_with_a_shebang():
    path = Path(__file__).parents[1] / "pipeline" / "run.py"
    assert path.stat().st_mode & 0o111 == 0o111
    assert path.read_text().startswith("#!/usr/bin/env python3\n")
