"""The wheel: four packages and their data, nothing else, and it works from where it is unpacked."""

import email
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {"pipeline", "sources", "prompts", "outputs"}
DATA = ("prompts/*.md", "sources/vocabulary/*.yaml", "sources/catalog/*.yaml", "pipeline/generate/models.toml")


def without_checkout() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(build, cwd=ROOT, env=without_checkout(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def names(wheel) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


@pytest.fixture(scope="module")
def unpacked(wheel, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def info(unpacked: Path, file: str) -> str:
    (found,) = unpacked.glob(f"*.dist-info/{file}")
    return found.read_text()


def test_the_wheel_holds_four_packages_and_nothing_else(names):
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == PACKAGES
    assert len(tops) == len(PACKAGES) + 1


def test_the_wheel_holds_every_module_and_data_file_of_the_packages(names):
    wanted = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    wanted += [path for pattern in DATA for path in ROOT.glob(pattern)]
    assert len(wanted) > 50
    assert sorted({path.relative_to(ROOT).as_posix() for path in wanted} - set(names)) == []
    suffixes = {Path(name).suffix for name in names if ".dist-info/" not in name}
    assert suffixes == {".py", ".md", ".yaml", ".toml"}


def test_the_wheel_declares_the_console_command_and_carries_the_licence(unpacked):
    assert info(unpacked, "entry_points.txt").split() == ["[console_scripts]", "medgloss", "=", "pipeline.cli:main"]
    assert email.message_from_string(info(unpacked, "METADATA"))["Name"] == "medgloss"
    assert "Apache License" in info(unpacked, "licenses/LICENSE")


def run(code: str, unpacked: Path, cwd: Path) -> str:
    """Run code with the unpacked wheel first on the path, ahead of an editable install of the checkout."""
    env = {**without_checkout(), "PYTHONPATH": str(unpacked), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_unpacked_wheel_lists_its_names_from_any_folder(unpacked, tmp_path):
    code = "import sys, pipeline, pipeline.cli; print(pipeline.__file__); sys.exit(pipeline.cli.main(['list']))"
    where, *listed = run(code, unpacked, tmp_path).splitlines()
    assert Path(where) == unpacked / "pipeline" / "__init__.py"
    for title, folder in (("annotation kinds", "sources/layouts"), ("backends", "pipeline/generate/backends")):
        files = sorted(path.stem for path in (ROOT / folder).glob("*.py") if path.stem != "__init__")
        assert listed[listed.index(title) + 1].split(", ") == [f"  {files[0]}", *files[1:]]
    assert "caption" in listed[listed.index("prompts") + 1]


def test_the_unpacked_wheel_reads_its_vocabulary_and_prompts(unpacked, tmp_path):
    code = (
        "from pipeline import vocabulary; from pipeline.generate import prompting\n"
        "print(vocabulary.load().meaning('Left Kidney'), len(prompting.load(prompting.available(), ('en', 'zh'))))"
    )
    meaning, count = run(code, unpacked, tmp_path).rsplit(maxsplit=1)
    assert meaning == "Meaning(concept='kidney', side='left')"
    assert int(count) == len(list((ROOT / "prompts").glob("*.md")))
