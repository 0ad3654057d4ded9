"""`medgloss doctor`: is this machine, this folder and this environment fit for a run, here and as a Ray job?

Starts nothing, sends nothing and needs only the standard library: it must run where a package is broken. A fault is
False; what may become one on a cluster is a note.
"""

import contextlib
import fnmatch
import importlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from pipeline.discovery import ROOT

IN_RAY_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""As in `drive`, which can not be imported here: it needs every package."""
OLDEST_PYTHON = (3, 11)
MODULES = {
    "highdicom": "highdicom",
    "isal": "isal.igzip",
    "jinja2": "jinja2",
    "jsonlines": "jsonlines",
    "openpyxl": "openpyxl",
    "nibabel": "nibabel",
    "numpy": "numpy",
    "openai": "openai",
    "opencv-python-headless": "cv2",
    "pillow": "PIL.Image",
    "pyarrow": "pyarrow",
    "pydantic": "pydantic",
    "pydicom": "pydicom",
    "pylibjpeg": "pylibjpeg",
    "pylibjpeg-openjpeg": "openjpeg",
    "pylibjpeg-rle": "rle",
    "pyjpegls": "jpeg_ls",
    "pyyaml": "yaml",
    "ray": "ray",
    "simpleitk": "SimpleITK",
    "tenacity": "tenacity",
    "tqdm": "tqdm",
}
"""Distribution to module."""
FOUND_ONLY = ("openai", "ray", "highdicom", "nibabel", "pydicom")
"""Modules that take long to import: looked for. The others are imported, with the libraries that they are built on."""
OPENCV = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")
OURS = ("pipeline", "sources", "prompts", "outputs")

MIB, GIB = 2**20, 2**30
MOST_UPLOAD = 100 * MIB
"""Ray refuses about 500 MiB; above this every submit is slow, and something is in the folder that is not code."""
MOST_FILES = 20_000
"""After so many the folder is not measured further."""
FREE = 5 * GIB
MEMORY_A_WORKER = 2 * GIB
"""A CT volume of 512x512x600 voxels, its mask and their temporary arrays."""
SHARED_TYPES = ("nfs", "nfs4", "lustre", "gpfs", "ceph", "cifs", "smb3", "beegfs", "glusterfs", "fuse.glusterfs", "9p")


class Finding(NamedTuple):
    """One thing that was looked at."""

    name: str
    ok: bool | None
    """None: a note."""
    text: str
    """What it is, and what to do."""


def doctor(environ: Mapping[str, str], cwd: Path, out: str | None) -> list[Finding]:
    """Look at all that a run needs.

    Args:
        environ: The environment, as `os.environ`; values of keys are never shown.
        cwd: Where the run is started.
        out: The run folder or URL, as given; None: below `cwd`.
    """
    cwd = cwd.resolve()
    return [
        _python(),
        *_packages(),
        _opencv(),
        _ray_default(),
        *_shadows(cwd),
        *_out(environ, cwd, out),
        _machine(),
        *_keys(environ),
        _path_python(environ),
        *_checkout(cwd),
        _upload(environ, cwd),
        _ray_token(environ),
        _ray_address(environ),
        *_shared_folder(environ, cwd, out),
    ]


def _ray_used(environ: Mapping[str, str]) -> bool:
    return bool(environ.get("RAY_ADDRESS") or environ.get(IN_RAY_JOB))


def _fault(environ: Mapping[str, str]) -> bool | None:
    """Return what a trap of Ray's is: a fault where Ray is used, else a note."""
    return False if _ray_used(environ) else None


# ---- Python and packages


def _python() -> Finding:
    version, oldest = ".".join(map(str, sys.version_info[:3])), ".".join(map(str, OLDEST_PYTHON))
    if sys.version_info >= OLDEST_PYTHON:
        return Finding("python", True, version)
    return Finding("python", False, f"{version}; medgloss needs {oldest} or newer")


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _packages() -> Iterator[Finding]:
    for distribution, module in MODULES.items():
        fault = _import_fault(module)
        version = _version(distribution)
        if fault:
            yield Finding(distribution, False, f"{fault}; `pip install --force-reinstall {distribution}`")
        else:
            yield Finding(distribution, True, version or "importable, but its version is not recorded")


def _import_fault(module: str) -> str | None:
    """Return why a module can not be imported, or None."""
    if module in FOUND_ONLY:
        return None if importlib.util.find_spec(module) else f"module {module} is not installed"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other people's packages
            importlib.import_module(module)
    except Exception as error:  # a broken installation raises anything; that it does is the finding
        return f"{type(error).__name__}: {str(error).splitlines()[0][:150] if str(error) else module}"
    return None


def _opencv() -> Finding:
    found = [name for name in OPENCV if _version(name)]
    if len(found) > 1:
        clash = f"{' and '.join(found)} overwrite each other's cv2"
        cure = f"`pip uninstall -y {' '.join(found)}`, then `pip install opencv-python-headless`"
        return Finding("opencv", False, f"{clash}; {cure}")
    return Finding("opencv", True, f"one build: {found[0]}" if found else "not installed by pip")


def _ray_default() -> Finding:
    try:
        wanted = importlib.metadata.requires("ray") or []
    except importlib.metadata.PackageNotFoundError:
        return Finding("ray[default]", False, "Ray is not installed; `pip install 'ray[default]'`")
    extra = [entry for entry in wanted if re.search(r"extra == ['\"]default['\"]", entry)]
    names = {re.split(r"[^\w.-]", entry, maxsplit=1)[0] for entry in extra}
    missing = sorted(name for name in names if _version(name) is None)
    if missing:
        lacks = f"Ray has no dashboard, and `ray job submit` needs it: {', '.join(missing)} not installed"
        return Finding("ray[default]", False, f"{lacks}; `pip install 'ray[default]'`")
    return Finding("ray[default]", True, "dashboard and job submission are there")


def _shadows(cwd: Path) -> Iterator[Finding]:
    names = [f"{name}/" for name in OURS if (cwd / name / "__init__.py").is_file()]
    if names and cwd != ROOT:
        where = (
            f"{', '.join(names)} in this folder may be imported in place of medgloss's (PYTHONPATH, `python -m`, Ray)"
        )
        yield Finding("shadowed", False, f"{where}; rename or start elsewhere")


# ---- the machine


def _out(environ: Mapping[str, str], cwd: Path, out: str | None) -> Iterator[Finding]:
    if out is not None and "://" in out:
        yield Finding("out", None, f"{out.split('://')[0]}:// is not probed; its credentials must be on every node")
        return
    if environ.get(IN_RAY_JOB) and not (out and Path(out).is_absolute()):
        lost = "relative inside a Ray job, whose working folder is thrown away"
        yield Finding("out", False, f"{out or 'the default'} is {lost}; give an absolute path or a URL")
    at = _existing(cwd / (out or "."))
    free = shutil.disk_usage(at).free
    roomy = "" if free >= FREE else f"; a run of volumes needs {FREE // GIB} GiB and more"
    yield Finding("disk", True if free >= FREE else None, f"{free / GIB:.1f} GiB free at {at}{roomy}")
    try:
        tempfile.TemporaryFile(dir=at).close()
    except OSError as error:
        yield Finding("writable", False, f"{at}: {error.strerror}; choose another --out")
    else:
        yield Finding("writable", True, str(at))


def _existing(path: Path) -> Path:
    """Return the path, or the nearest folder above it that is there."""
    return next(at for at in (path, *path.parents) if at.is_dir())


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory() -> int:
    """Return the bytes this process may use: the machine's, or its container's."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        text = Path(limit).read_text().strip() if Path(limit).is_file() else ""
        found += [int(text)] if text.isdigit() else []
    return min(found)


def _machine() -> Finding:
    cores, memory = _cores(), _memory()
    text = f"{cores} cores, {memory / GIB:.1f} GiB of memory"
    fitting = max(1, memory // MEMORY_A_WORKER)
    if fitting < cores:
        return Finding("machine", None, f"{text}; for large volumes give --workers {fitting}: each holds one")
    return Finding("machine", True, text)


# ---- keys


def _keys(environ: Mapping[str, str]) -> Iterator[Finding]:
    key = environ.get("OPENAI_API_KEY", "")
    warning = "for Ray set it in the nodes' environment: what runtime_env holds is readable in `ray job list`"
    if not key:
        yield Finding("OPENAI_API_KEY", None, f"not set; templates and most local servers need none; {warning}")
    elif key != key.strip():
        yield Finding("OPENAI_API_KEY", False, "set, with white space at an end: the endpoint will refuse it")
    else:
        yield Finding("OPENAI_API_KEY", True, f"set; {warning}")
    if not environ.get("MEDGLOSS_ID_KEY"):
        yield Finding("MEDGLOSS_ID_KEY", None, "not set; only sources with `hash_ids: true` need it")


# ---- Ray


def _path_python(environ: Mapping[str, str]) -> Finding:
    found = shutil.which("python", path=environ.get("PATH", ""))
    mine = Path(sys.executable).parent
    if found and Path(found).parent.resolve() == mine.resolve():
        return Finding("python on PATH", True, "is the one that runs this")
    which = f"is {found}, not {sys.executable}" if found else "is not there"
    trap = "Ray jobs run the head's `python`: activate the environment before `ray start`"
    return Finding("python on PATH", _fault(environ), f"{which}; {trap}")


def _checkout(cwd: Path) -> Iterator[Finding]:
    """Look at what `ray job submit --working-dir . pipeline/run.py` needs of a checkout."""
    if not _is_checkout(cwd):
        return
    run = cwd / "pipeline" / "run.py"
    if not run.is_file():
        yield Finding("pipeline/run.py", False, "is not there; `git checkout pipeline/run.py`")
    elif not run.stat().st_mode & 0o100:
        yield Finding("pipeline/run.py", False, "can not be executed; `chmod 755 pipeline/run.py`, or the job fails")
    elif not run.read_bytes().startswith(b"#!"):
        yield Finding("pipeline/run.py", False, "has no `#!` line; `git checkout pipeline/run.py`, or the job fails")
    else:
        yield Finding("pipeline/run.py", True, "executable, with its `#!` line")
    there = (cwd / ".rayignore").is_file()
    text = "is there" if there else "is not there: data and runs would be uploaded; `git checkout .rayignore`"
    yield Finding(".rayignore", there, text)


def _is_checkout(cwd: Path) -> bool:
    project = cwd / "pyproject.toml"
    return project.is_file() and 'name = "medgloss"' in project.read_text(encoding="utf-8", errors="replace")


def _upload(environ: Mapping[str, str], cwd: Path) -> Finding:
    sizes, files, whole = _sizes(cwd, _ignored(environ, cwd))
    total = sum(sizes.values())
    size = f"{total / MIB:.1f} MiB in {files} files"
    if whole and total <= MOST_UPLOAD:
        return Finding("working folder", True, f"{size}: what `ray job submit --working-dir .` uploads")
    largest = sizes.most_common(1)[0][0]
    advice = f"most of it in {largest}; add what is no code to .rayignore, or the upload is slow or refused (413)"
    ok = False if _is_checkout(cwd) else _fault(environ)
    return Finding("working folder", ok, f"more than {size} would be uploaded by `ray job submit`, {advice}")


def _ignored(environ: Mapping[str, str], cwd: Path) -> list[str]:
    """Return the patterns that Ray leaves out, roughly: it reads whole gitignore syntax, here `!` lines are not."""
    found = environ.get("RAY_OVERRIDE_RUNTIME_ENV_DEFAULT_EXCLUDES", ".git,.venv,venv,__pycache__").split(",")
    for name in (".gitignore", ".rayignore"):
        file = cwd / name
        skipped = name == ".gitignore" and environ.get("RAY_RUNTIME_ENV_IGNORE_GITIGNORE") == "1"
        if file.is_file() and not skipped:
            found += file.read_text(encoding="utf-8", errors="replace").splitlines()
    return [line.strip().rstrip("/") for line in found if line.strip() and not line.lstrip().startswith(("#", "!"))]


def _is_ignored(path: str, patterns: list[str]) -> bool:
    """Does a pattern leave out a path relative to the folder? One with a slash means that path, else any name."""
    name = path.rpartition("/")[2]
    return any(
        fnmatch.fnmatch(path, pattern.lstrip("/")) if "/" in pattern else fnmatch.fnmatch(name, pattern)
        for pattern in patterns
    )


def _sizes(cwd: Path, patterns: list[str]) -> tuple[Counter[str], int, bool]:
    """Return bytes by top-level name, files, and whether all was measured: it ends at the limits."""
    sizes, files = Counter[str](), 0
    for folder, folders, names in os.walk(cwd):
        at = Path(folder).relative_to(cwd)
        folders[:] = sorted(name for name in folders if not _is_ignored((at / name).as_posix(), patterns))
        for name in names:
            path = at / name
            if _is_ignored(path.as_posix(), patterns):
                continue
            with contextlib.suppress(FileNotFoundError):  # a run may be writing here
                sizes[path.parts[0]] += (cwd / path).lstat().st_size
            files += 1
            if files >= MOST_FILES or sum(sizes.values()) > MOST_UPLOAD:
                return sizes, files, False
    return sizes, files, True


def _ray_token(environ: Mapping[str, str]) -> Finding:
    mode = environ.get("RAY_AUTH_MODE", "").lower()
    home = Path(environ.get("HOME") or "~").expanduser()
    has_token = bool(
        environ.get("RAY_AUTH_TOKEN") or environ.get("RAY_AUTH_TOKEN_PATH") or (home / ".ray/auth_token").is_file()
    )
    if mode == "disabled":
        return Finding("Ray token", True, "RAY_AUTH_MODE=disabled: set it on every node and for the submit")
    if mode == "token":
        text = "RAY_AUTH_MODE=token, and a token is there"
        lacking = "RAY_AUTH_MODE=token without a token; copy the cluster's to ~/.ray/auth_token"
        return Finding("Ray token", True if has_token else _fault(environ), text if has_token else lacking)
    if has_token:
        trap = "a token is there and RAY_AUTH_MODE is not set: `ray start` asks for it, `ray job submit` fails with 401"
        return Finding(
            "Ray token", _fault(environ), f"{trap}; RAY_AUTH_MODE=token for the submit, or disabled everywhere"
        )
    return Finding("Ray token", True, "none yet; the first local Ray run writes ~/.ray/auth_token")


def _ray_address(environ: Mapping[str, str]) -> Finding:
    address = environ.get("RAY_ADDRESS")
    if not address:
        return Finding("RAY_ADDRESS", None, "not set: `medgloss run` works on this machine, unless --executor ray")
    if address.startswith(("http://", "https://")):
        text = f"{address} is a dashboard: for `ray job submit` only; unset it or give --executor local for a run here"
        return Finding("RAY_ADDRESS", None, text)
    return Finding("RAY_ADDRESS", None, f"{address}: `medgloss run` joins this cluster, unless --executor local")


def _shared_folder(environ: Mapping[str, str], cwd: Path, out: str | None) -> Iterator[Finding]:
    if not _ray_used(environ) or (out is not None and "://" in out):
        return
    at = _existing(cwd / (out or "."))
    kind = _file_system(at)
    if kind in SHARED_TYPES:
        yield Finding("shared folder", True, f"{at} is on {kind}; mount it on every node under the same path")
    else:
        one = f"{at} is on {kind or 'an unknown file system'}: on more than one node workers would not see each other's"
        yield Finding("shared folder", None, f"{one} files; give --out (and data) on a shared one, or a URL")


def _file_system(path: Path) -> str | None:
    """Return the type of the file system that a folder is on, or None where the system does not say."""
    mounts = Path("/proc/mounts")
    if not mounts.is_file():
        return None
    rows = [line.split()[1:3] for line in mounts.read_text().splitlines()]
    holding = [(point, kind) for point, kind in rows if path.resolve().is_relative_to(point)]
    return max(holding, key=lambda row: len(row[0]))[1] if holding else None
