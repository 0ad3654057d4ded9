"""Executors: a worker's death is one line, and the same command goes on."""

from pathlib import Path

import pytest

from pipeline.cli import main
from pipeline.coordinator import Shared
from pipeline.executors import local

BACKEND = '''
import os
import signal
from pathlib import Path

from pipeline.records import Reply


class Mortal:
    """Says one caption; its first process dies."""

    name, model, endpoint = "mortal", "mortal", ""

    async def open(self, requests):
        async for request in requests:
            yield Reply(request.key, "ok", '{"caption": "A smear of blood with one red blood cell."}', "stop")

    async def close(self):
        pass


def connect(spec, concurrency, picture):
    flag = Path("alive")
    if flag.exists():
        flag.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    return Mortal()
'''


@pytest.fixture
def call(phantom_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A run with a backend of its own, named by its path, whose first worker is killed from outside."""
    monkeypatch.chdir(tmp_path)
    Path("mortal.py").write_text(BACKEND)
    Path("alive").touch()
    flags = ["--backend", "./mortal.py", "--prompt", "caption", "--language", "en", "--shards", "phantom_blood=4"]
    return ["run", str(phantom_folder / "blood.yaml"), "--out", "run", "--workers", "2", *flags]


def test_a_worker_that_is_killed_stops_the_run_with_one_line_and_the_same_command_goes_on(call, capsys):
    assert main(call) == 3
    said = capsys.readouterr().err
    assert said == "medgloss: a worker died (signal 9; out of memory?); run again to go on\n"
    assert main(call) == 0
    assert "ledger requests: 12 = 12 kept + 0 rejected" in capsys.readouterr().out


def test_a_backend_outside_the_working_directory_is_refused(call, capsys, monkeypatch, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    call[call.index("./mortal.py")] = str(tmp_path / "mortal.py")
    assert main(call) == 2
    assert "must lie in the working directory" in capsys.readouterr().err


def test_one_worker_needs_no_process_and_more_than_shards_are_not_started(tmp_path):
    shared = Shared(1, {})
    executor = local.connect(None, 8, 1, shared)
    assert isinstance(executor, local.Here)
    executor.close()
    assert local.connect(None, 8, 3, shared)._count == shared.workers == 3


def test_quota_is_shared_by_the_workers():
    assert Shared(4, {"http://x": 16}).lease("http://x") == 4
    assert Shared(32, {"http://x": 16}).lease("http://x") == 1
