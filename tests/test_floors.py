"""The house: imports point down between floors, heavy libraries stay in their rooms, files stay small."""

import ast
import graphlib
import re
import statistics
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("pipeline", "sources", "prompts", "outputs")

FLOORS = """
    pipeline.run
    pipeline.cli
    pipeline.watch  pipeline.drive
    pipeline.inventory
    pipeline.check  pipeline.preview  pipeline.estimate  pipeline.doctor  pipeline.catalog  pipeline.propose.*
    pipeline.defects
    pipeline.executors.*  pipeline.export  pipeline.report
    pipeline.ledgers
    pipeline.plan
    pipeline.work
    pipeline.ingest.stage  pipeline.generate.stage  pipeline.curate.stage
    pipeline.ingest.*  pipeline.generate.*  pipeline.curate.*
    sources.*  outputs.*
    pipeline.vocabulary  pipeline.shards  pipeline.settings  pipeline.coordinator  pipeline.rows  pipeline.discovery
    pipeline.strict  pipeline.store  pipeline.pictures
    pipeline.runlength  pipeline.rasters
    pipeline.records  pipeline.errors
"""
"""Top to bottom: a module imports from its own floor and from those below."""

HOMES = {
    "pydicom": "pipeline.ingest.*",
    "highdicom": "pipeline.ingest.*",
    "nibabel": "pipeline.ingest.*",
    "SimpleITK": "pipeline.ingest.*",
    "cv2": "pipeline.ingest.*  pipeline.pictures  pipeline.rasters",
    "PIL": "pipeline.ingest.*  pipeline.pictures  pipeline.rasters",
    "isal": "pipeline.ingest.*  pipeline.pictures",
    # ledgers and report count rows with pyarrow.compute; those few lines belong in rows or store
    "pyarrow": "pipeline.store  pipeline.rows  outputs.*  pipeline.ledgers  pipeline.report  sources.parquet_files",
    "openai": "pipeline.generate.backends.openai_*",
    "openpyxl": "sources.sheets",
    "jinja2": "pipeline.generate.prompting",
    "ray": "pipeline.executors.ray  pipeline.generate.backends.vllm_engine",
    "yaml": "pipeline.strict",
    "tqdm": "pipeline.watch",
    "tenacity": "pipeline.generate.stage",
}
"""Library to the modules that may import it."""

STAGES = ("ingest", "generate", "curate")
MOST_LINES, MEDIAN_LINES = 600, 350


def files() -> dict[str, Path]:
    """Module to its file, the packages' `__init__` left out."""
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    found = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in paths}
    return {name: path for name, path in found.items() if path.stem != "__init__"}


MODULES = files()


def imported(source: str, modules: Mapping[str, object]) -> Iterator[str]:
    """Yield what a source imports, anywhere in it; `from pipeline import rows` is `pipeline.rows`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in modules else str(node.module)


def ours(name: str) -> bool:
    return name.partition(".")[0] in PACKAGES


def fits(module: str, patterns: str) -> bool:
    return any(fnmatchcase(module, pattern) for pattern in patterns.split())


def floor_of(module: str) -> int:
    """The floor's number from the top; a module's own name counts before a pattern."""
    floors = FLOORS.strip().splitlines()
    exact = [n for n, floor in enumerate(floors) if module in floor.split()]
    found = exact or [n for n, floor in enumerate(floors) if fits(module, floor)]
    assert len(found) == 1, f"{module} stands on {len(found)} floors of the table; give it one"
    return found[0]


def stage_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "pipeline" and len(parts) > 2 and parts[1] in STAGES else None


def faults(sources: Mapping[str, str]) -> list[str]:
    """What is wrong with the imports of some modules."""
    found = []
    for module, source in sources.items():
        for name in sorted(set(imported(source, sources))):
            if ours(name) and name not in PACKAGES:
                if floor_of(name) < floor_of(module):
                    found.append(f"{module} imports {name}, which is above it")
                if stage_of(module) and stage_of(name) not in (None, stage_of(module)):
                    found.append(f"{module} imports {name}, of another stage")
            elif not fits(module, HOMES.get(name.partition(".")[0], "*")):
                found.append(f"{module} imports {name}, whose home is {HOMES[name.partition('.')[0]]}")
    return found


SOURCES = {name: path.read_text() for name, path in MODULES.items()}


def test_every_module_has_a_floor_and_every_name_in_the_table_a_module():
    assert {module: floor_of(module) for module in MODULES}.keys() == MODULES.keys()
    assert [name for name in FLOORS.split() if not any(fnmatchcase(module, name) for module in MODULES)] == []


def test_the_architecture_page_shows_this_table():
    assert textwrap.dedent(FLOORS).strip() in (ROOT / "docs" / "architecture.md").read_text()


def test_imports_point_down_stages_stay_apart_and_heavy_libraries_stay_at_home():
    assert faults(SOURCES) == []


@pytest.mark.parametrize(
    ("module", "source", "fault"),
    [
        ("pipeline.records", "from pipeline.store import Store", "pipeline.store, which is above it"),
        ("pipeline.records", "from pipeline import work", "pipeline.work, which is above it"),
        ("sources.tables", "def f():\n    import pipeline.cli", "pipeline.cli, which is above it"),
        ("pipeline.ingest.masks", "from pipeline.ingest.stage import Read", "pipeline.ingest.stage, which is above it"),
        ("pipeline.curate.splits", "from pipeline.generate.facts import Label", "pipeline.generate.facts, of another"),
        ("pipeline.plan", "import ray", "ray, whose home is pipeline.executors.ray"),
        ("outputs.card", "from PIL import Image", "PIL, whose home is pipeline.ingest.*"),
    ],
)
def test_a_planted_import_is_found(module, source, fault):
    found = faults({**SOURCES, module: source})
    assert len(found) == 1
    assert found[0].startswith(f"{module} imports {fault}")


def test_a_module_that_is_in_no_floor_is_found():
    with pytest.raises(AssertionError, match=r"pipeline\.utils stands on 0 floors"):
        faults({"pipeline.utils": "import pipeline.utils"})


def test_no_module_imports_itself_in_a_circle():
    graph = {module: set(imported(source, MODULES)) & MODULES.keys() for module, source in SOURCES.items()}
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) == len(MODULES)
    with pytest.raises(graphlib.CycleError):
        graphlib.TopologicalSorter({**graph, "pipeline.errors": {"pipeline.cli"}}).prepare()


@pytest.mark.parametrize("module", ["pipeline.errors", "pipeline.records"])
def test_the_ground_floor_imports_the_standard_library_only(module):
    assert {name.partition(".")[0] for name in imported(SOURCES[module], MODULES)} <= sys.stdlib_module_names


def test_no_module_beside_run_is_named_like_a_library():
    """`python pipeline/run.py` puts its folder first on the path; a queue.py there once broke urllib3."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    wanted = {re.match(r"[\w.-]+", text)[0].lower() for text in declared}
    installed = {name for name, of in packages_distributions().items() if wanted & {one.lower() for one in of}}
    assert "ray" in installed
    names = {path.stem for path in (ROOT / "pipeline").iterdir() if path.suffix == ".py" or path.is_dir()}
    assert names & (installed | sys.stdlib_module_names | HOMES.keys()) == set()


def test_every_folder_with_a_module_is_a_package_whose_init_holds_a_docstring_only():
    for folder in {path.parent for path in MODULES.values()} | {ROOT / package for package in PACKAGES}:
        body = ast.parse((folder / "__init__.py").read_text()).body
        assert [type(node) for node in body] == [ast.Expr], folder


def test_files_are_short():
    lines = {module: source.count("\n") for module, source in SOURCES.items()}
    assert {module: count for module, count in lines.items() if count > MOST_LINES} == {}
    assert statistics.median(lines.values()) <= MEDIAN_LINES


def test_help_imports_nothing_but_the_standard_library():
    code = (
        "import sys; before = set(sys.modules); from pipeline.cli import parser; parser().format_help();"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before} - sys.stdlib_module_names)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["pipeline"]
