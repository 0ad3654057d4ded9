"""The README is run: its demo, its options, its Python block."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]
README = (CHECKOUT / "README.md").read_text(encoding="utf-8")
BIN = Path(sys.executable).parent


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", README, re.DOTALL)


def steady(output: str) -> list[str]:
    """Leave out what differs from run to run: seconds, and the order in which shards end."""
    lines = [re.sub(r"\d+\.\d s\b", "N s", re.sub(r", \d+ left$", "", line)) for line in output.splitlines()]
    return sorted(line.strip() for line in lines if line.strip())


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Run the recipe of `make demo` in a folder of its own; returns the folder and what it printed."""
    folder = tmp_path_factory.mktemp("demo")
    recipe = re.search(r"^demo:.*\n((?:\t.*\n)+)", (CHECKOUT / "Makefile").read_text(), re.MULTILINE)
    assert recipe
    printed = ""
    for line in recipe[1].splitlines():
        command = line.strip().replace("$(BIN)/", "")
        done = subprocess.run(
            command, shell=True, cwd=folder, env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"},
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        printed += f"{command}\n{done.stdout}"
    return folder, printed


def test_the_first_screen_names_both_commands():
    first = "\n".join(README.splitlines()[:40])
    assert "$ make demo" in first
    assert "$ make test" in first


def test_the_demo_prints_what_the_readme_shows(demo):
    assert steady(blocks("text")[0]) == steady(demo[1])


def test_the_python_block_runs_on_the_demo(demo, tmp_path):
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    code = blocks("python")[0]
    done = subprocess.run([sys.executable, "-c", code], cwd=demo[0], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "<image>" in done.stdout


def test_the_options_are_those_of_help():
    environment = {**os.environ, "COLUMNS": "110"}
    shown = subprocess.run([BIN / "medgloss", "run", "--help"], env=environment, capture_output=True, text=True).stdout
    assert blocks("text")[1].strip() == shown.strip()


def test_every_medgloss_command_in_the_readme_is_one_that_the_parser_takes():
    from pipeline.cli import parser

    text = "\n".join(blocks("console")).replace("\\\n", " ")
    calls = [line.split("#")[0] for line in text.splitlines() if "medgloss " in line or "run.py " in line]
    assert len(calls) >= 7
    for call in calls:
        words = shlex.split(call)
        at = next(n for n, word in enumerate(words) if word == "medgloss" or word.endswith("run.py"))
        assert parser().parse_args(words[at + 1 :]).command


def test_links_to_files_lead_somewhere():
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    for link in links:
        assert link.startswith("http") or (CHECKOUT / link).is_file(), link


def test_the_demo_ends_with_a_set_a_card_and_a_report(demo):
    run = demo[0] / "runs" / "demo"
    assert (run / "report.html").stat().st_size > 100_000
    assert (run / "dataset" / "README.md").read_text().startswith("---\n")
    assert list((run / "dataset" / "data" / "default").glob("*.parquet"))
