"""Ray: the same files as the local executor, and `ray job submit` with its traps."""

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from fake_openai import FakeOpenAI

from pipeline.cli import main

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

CHECKOUT = Path(__file__).parents[1]
TOKEN = "0123456789abcdef0123456789abcdef"


class Head(NamedTuple):
    """A Ray head of the test's own, with token authentication on."""

    address: str
    environment: dict[str, str]


def digests(run: Path) -> dict[str, str]:
    files = [
        f for kind in ("records", "samples", "curated", "dataset") for f in sorted((run / kind).rglob("*.parquet"))
    ]
    return {str(file.relative_to(run)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    home = tmp_path_factory.mktemp("home")
    temporary = Path("/tmp") / f"medgloss-ray-{os.getpid()}"  # Ray's socket paths must stay under 107 bytes
    port, dashboard = free_port(), free_port()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
        "HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": TOKEN,
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    command = ["ray", "start", "--head", "--block", "--num-cpus=2", f"--port={port}", f"--temp-dir={temporary}"]
    command += [f"--dashboard-port={dashboard}", "--dashboard-host=127.0.0.1", "--node-ip-address=127.0.0.1"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{dashboard}"
    request = urllib.request.Request(f"{address}/api/version", headers={"Authorization": f"Bearer {TOKEN}"})
    try:
        for _ in range(120):
            try:
                with urllib.request.urlopen(request, timeout=2):
                    break
            except OSError:
                time.sleep(0.5)
        else:
            pytest.fail("the Ray head did not come up")
        yield Head(address, environment)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        shutil.rmtree(temporary, ignore_errors=True)


def submit(head: Head, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["ray", "job", "submit", "--address", head.address, "--working-dir", ".", *arguments]
    return subprocess.run(command, cwd=CHECKOUT, env=head.environment, capture_output=True, text=True, timeout=240)


def test_the_ray_executor_makes_the_same_files_as_the_local_one(phantom_folder: Path, tmp_path: Path, head: Head):
    sources = [str(phantom_folder / "chest.yaml"), str(phantom_folder / "blood.yaml")]
    with FakeOpenAI() as server:
        flags = ["--backend", "openai_api", "--model", "fake-vlm", "--base-url", server.url, "--language", "en"]
        assert main(["run", *sources, "--out", str(tmp_path / "a" / "run"), "--workers", "1", *flags]) == 0
        asked = server.stats()["distinct"]
        server.reset()
        done = submit(head, "--", "pipeline/run.py", "run", *sources, "--out", str(tmp_path / "b" / "run"), *flags)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "ledger requests: " in done.stdout
        assert server.stats()["distinct"] == asked
    assert digests(tmp_path / "a" / "run") == digests(tmp_path / "b" / "run")


def test_the_command_of_the_readme_works_with_the_run_folder_from_the_environment(
    phantom_folder: Path, tmp_path: Path, head: Head
):
    run = tmp_path / "run"
    environment = f'{{"env_vars": {{"MEDGLOSS_OUT": "{run}"}}}}'
    done = submit(head, "--runtime-env-json", environment, "pipeline/run.py", "run", str(phantom_folder / "torso.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert (run / "dataset" / "manifest.json").is_file()


def test_a_relative_run_folder_is_refused_in_one_line(phantom_folder: Path, head: Head):
    done = submit(head, "--", "pipeline/run.py", "run", str(phantom_folder / "torso.yaml"), "--out", "runs/lost")
    assert done.returncode == 1
    assert "medgloss: --out runs/lost: inside a Ray job give an absolute path or a URL" in done.stdout
    assert "Traceback" not in done.stdout


def test_without_the_token_the_submit_fails_and_doctor_explains_it(phantom_folder: Path, head: Head):
    without = {n: v for n, v in head.environment.items() if n not in ("RAY_AUTH_TOKEN", "RAY_AUTH_MODE")}
    done = submit(head._replace(environment=without), "pipeline/run.py", "list")
    assert done.returncode == 1
    token = Path(head.environment["HOME"]) / ".ray" / "auth_token"
    token.parent.mkdir(exist_ok=True)
    token.write_text(TOKEN)
    command = [str(Path(sys.executable).parent / "medgloss"), "doctor"]
    found = subprocess.run(
        command, env={**without, "RAY_ADDRESS": head.address}, capture_output=True, text=True, cwd=CHECKOUT
    )
    assert "RAY_AUTH_MODE=token" in found.stdout
