"""`medgloss doctor`: planted faults are found, and told with what to do."""

import re
import sys
import time
import tomllib
from pathlib import Path

import pytest

from pipeline import doctor as module
from pipeline.discovery import ROOT
from pipeline.doctor import Finding, doctor


def found(name: str, cwd: Path, out: str | None = None, **environ: str) -> Finding:
    """Return the finding of a name in an environment that holds only these variables."""
    return next(finding for finding in doctor({"HOME": str(cwd), **environ}, cwd, out) if finding.name == name)


def names(cwd: Path, out: str | None = None, **environ: str) -> set[str]:
    return {finding.name for finding in doctor({"HOME": str(cwd), **environ}, cwd, out)}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder that looks like a checkout in order."""
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "medgloss"\n')
    (tmp_path / ".rayignore").write_text("# data\nruns/\n*.nii.gz\n/big/inside\n")
    run = tmp_path / "pipeline" / "run.py"
    run.parent.mkdir()
    run.write_text("#!/usr/bin/env python3\n")
    run.chmod(0o755)
    return tmp_path


def planted(folder: Path, name: str, version: str, requires: str = "") -> None:
    """Install a distribution that has no files."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}")


def test_it_takes_less_than_three_seconds() -> None:
    started = time.monotonic()
    assert len(doctor({}, ROOT, None)) > 25
    assert time.monotonic() - started < 3


def test_this_python_and_its_packages_are_in_order(tmp_path: Path) -> None:
    findings = {finding.name: finding for finding in doctor({}, tmp_path, None)}
    assert findings["python"] == Finding("python", True, ".".join(map(str, sys.version_info[:3])))
    assert [name for name in module.MODULES if findings[name].ok is not True] == []
    assert re.fullmatch(r"\d+\.\d+\.\d+", findings["numpy"].text)


def test_every_dependency_of_the_project_is_looked_at() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {re.split(r"[^\w.-]", entry)[0].lower() for entry in project["dependencies"]} == set(module.MODULES)


def test_a_package_that_breaks_on_import_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "_jpeg_ls.py").write_text("raise OSError('libcharls.so: no such file')")
    (tmp_path / "jpeg_ls.py").write_text("import _jpeg_ls")
    for name in ("jpeg_ls", "_jpeg_ls"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    assert found("pyjpegls", tmp_path) == Finding(
        "pyjpegls", False, "OSError: libcharls.so: no such file; `pip install --force-reinstall pyjpegls`"
    )


def test_two_builds_of_opencv_are_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found("opencv", tmp_path).text == "one build: opencv-python-headless"
    planted(tmp_path, "opencv-python", "4.10.0")
    monkeypatch.syspath_prepend(tmp_path)
    finding = found("opencv", tmp_path)
    assert finding.ok is False
    assert finding.text.startswith(
        "opencv-python and opencv-python-headless overwrite each other's cv2; `pip uninstall"
    )


def test_a_ray_without_its_dashboard_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found("ray[default]", tmp_path).ok is True
    planted(tmp_path, "ray", "2.60.0", "Requires-Dist: no-such-dashboard>=1; extra == 'default'\n")
    monkeypatch.syspath_prepend(tmp_path)
    finding = found("ray[default]", tmp_path)
    assert finding.ok is False
    assert "no-such-dashboard not installed; `pip install 'ray[default]'`" in finding.text


def test_another_python_on_the_path_is_a_note_and_with_ray_a_fault(tmp_path: Path) -> None:
    other = tmp_path / "bin" / "python"
    other.parent.mkdir()
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    finding = found("python on PATH", tmp_path, PATH=str(other.parent))
    assert finding.ok is None
    assert finding.text.startswith(f"is {other}, not {sys.executable}; Ray jobs run the head's `python`")
    assert found("python on PATH", tmp_path, PATH=str(other.parent), RAY_ADDRESS="auto").ok is False
    assert found("python on PATH", tmp_path, PATH=str(Path(sys.executable).parent)).ok is True


def test_a_checkout_in_order_has_no_fault(checkout: Path) -> None:
    assert found("pipeline/run.py", checkout).ok is True
    assert found(".rayignore", checkout).ok is True
    assert found("working folder", checkout).ok is True


def test_a_run_file_that_ray_can_not_start_is_a_fault(checkout: Path) -> None:
    run = checkout / "pipeline" / "run.py"
    run.write_text("import sys\n")
    assert found("pipeline/run.py", checkout).text.startswith("has no `#!` line")
    run.chmod(0o644)
    assert found("pipeline/run.py", checkout) == Finding(
        "pipeline/run.py", False, "can not be executed; `chmod 755 pipeline/run.py`, or the job fails"
    )
    run.unlink()
    assert found("pipeline/run.py", checkout).ok is False


def test_outside_a_checkout_the_run_file_is_not_looked_for(tmp_path: Path) -> None:
    assert not {"pipeline/run.py", ".rayignore", "shadowed"} & names(tmp_path)


def sparse(path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(size)


def test_what_ray_would_upload_is_measured_without_what_is_ignored(checkout: Path) -> None:
    sparse(checkout / "runs" / "records.parquet", 500 * module.MIB)
    sparse(checkout / "deep" / "ct.nii.gz", 500 * module.MIB)
    sparse(checkout / "big" / "inside" / "x.bin", 500 * module.MIB)
    sparse(checkout / ".git" / "pack", 500 * module.MIB)
    sparse(checkout / "code.bin", 3 * module.MIB)
    assert found("working folder", checkout) == Finding(
        "working folder", True, "3.0 MiB in 4 files: what `ray job submit --working-dir .` uploads"
    )


def test_a_working_folder_with_data_in_it_is_a_fault(checkout: Path) -> None:
    sparse(checkout / "data" / "a.dcm", 150 * module.MIB)
    finding = found("working folder", checkout)
    assert finding.ok is False
    assert "most of it in data; add what is no code to .rayignore" in finding.text
    (checkout / ".rayignore").unlink()
    assert found(".rayignore", checkout).ok is False


def test_folders_that_shadow_the_packages_are_a_fault(tmp_path: Path) -> None:
    (tmp_path / "outputs").mkdir()  # a folder of files shadows nothing
    (tmp_path / "sources").mkdir()
    (tmp_path / "sources" / "__init__.py").touch()
    finding = found("shadowed", tmp_path)
    assert finding.ok is False
    assert finding.text.startswith("sources/ in this folder may be imported in place of medgloss's")
    assert "shadowed" not in names(ROOT)


def test_a_token_without_an_auth_mode_is_explained(tmp_path: Path) -> None:
    assert found("Ray token", tmp_path).ok is True
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("TOKEN-OF-THIS-TEST")
    finding = found("Ray token", tmp_path)
    assert finding.ok is None
    assert "`ray job submit` fails with 401; RAY_AUTH_MODE=token for the submit, or disabled everywhere" in finding.text
    assert "TOKEN-OF-THIS-TEST" not in finding.text
    assert found("Ray token", tmp_path, RAY_ADDRESS="http://127.0.0.1:8265").ok is False
    assert found("Ray token", tmp_path, RAY_AUTH_MODE="token").ok is True
    assert found("Ray token", tmp_path, RAY_AUTH_MODE="disabled").ok is True


def test_the_token_mode_without_a_token_is_told(tmp_path: Path) -> None:
    assert found("Ray token", tmp_path, RAY_AUTH_MODE="token").text.startswith("RAY_AUTH_MODE=token without a token")


def test_the_address_says_where_a_run_will_work(tmp_path: Path) -> None:
    assert found("RAY_ADDRESS", tmp_path).text.startswith("not set: `medgloss run` works on this machine")
    assert "joins this cluster" in found("RAY_ADDRESS", tmp_path, RAY_ADDRESS="10.0.0.1:6379").text
    assert "for `ray job submit` only" in found("RAY_ADDRESS", tmp_path, RAY_ADDRESS="http://10.0.0.1:8265").text


def test_a_relative_run_folder_inside_a_ray_job_is_a_fault(tmp_path: Path) -> None:
    job = {module.IN_RAY_JOB: "{}"}
    assert found("out", tmp_path, "runs/a", **job).ok is False
    assert found("out", tmp_path, None, **job).text.startswith("the default is relative inside a Ray job")
    assert "out" not in names(tmp_path, str(tmp_path / "runs"), **job)
    assert "out" not in names(tmp_path, "runs/a")


def test_the_disk_is_that_of_the_nearest_folder(tmp_path: Path) -> None:
    assert found("disk", tmp_path, "runs/not/yet").text.split(" free at ")[1].startswith(str(tmp_path))
    assert found("writable", tmp_path, "runs/not/yet") == Finding("writable", True, str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_url_is_not_probed(tmp_path: Path) -> None:
    assert found("out", tmp_path, "s3://bucket/run").text.startswith("s3:// is not probed")
    assert not {"disk", "writable"} & names(tmp_path, "s3://bucket/run")


def test_the_key_is_told_to_be_set_and_never_shown(tmp_path: Path) -> None:
    assert found("OPENAI_API_KEY", tmp_path).ok is None
    findings = doctor({"OPENAI_API_KEY": "KEY-OF-THIS-TEST", "HOME": str(tmp_path)}, tmp_path, None)
    key = next(finding for finding in findings if finding.name == "OPENAI_API_KEY")
    assert key.ok is True
    assert "runtime_env holds is readable in `ray job list`" in key.text
    assert not any("KEY-OF-THIS-TEST" in finding.text for finding in findings)
    assert found("OPENAI_API_KEY", tmp_path, OPENAI_API_KEY="KEY-OF-THIS-TEST\n").ok is False


def test_a_cluster_is_told_to_share_the_run_folder(tmp_path: Path) -> None:
    assert "shared folder" not in names(tmp_path)
    finding = found("shared folder", tmp_path, "/tmp", RAY_ADDRESS="auto")
    assert finding.ok is (True if module._file_system(Path("/tmp")) in module.SHARED_TYPES else None)
    assert "shared folder" not in names(tmp_path, "s3://bucket/run", RAY_ADDRESS="auto")


def test_no_finding_takes_more_than_two_lines(tmp_path: Path) -> None:
    for finding in doctor({"RAY_ADDRESS": "auto", "HOME": str(tmp_path)}, ROOT, None):
        assert "\n" not in finding.text
        assert len(finding.text) <= 2 * 110 + len(str(tmp_path)), finding.name
