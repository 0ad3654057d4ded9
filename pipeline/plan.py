"""What there is to do: sources, shards, and which of them are out of date. Opens no picture."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline import discovery
from pipeline.errors import UserError
from pipeline.generate import checks, prompting
from pipeline.generate.facts import Label
from pipeline.generate.prompting import Prompt
from pipeline.records import Case, Shard, Stage
from pipeline.settings import Settings
from pipeline.shards import count_for, cut
from pipeline.store import Manifest, Store, digest, read_table
from pipeline.strict import read_text
from pipeline.vocabulary import Vocabulary
from pipeline.vocabulary import load as load_vocabulary
from pipeline.work import Job, Task, files_of
from sources import cases as source_cases
from sources import descriptor as descriptors
from sources import preset
from sources.cases import CasePlan, form_of
from sources.descriptor import Descriptor

VERSIONS = {"ingest": 3, "generate": 1, "curate": 1, "export": 1}
"""Raised when a stage's code makes other rows from the same input: old files are out of date then."""
CASE_STAGES: tuple[Stage, ...] = ("ingest", "generate", "curate")


@dataclass(frozen=True, slots=True)
class SourcePlan:
    """A source, its cases and their cut."""

    descriptor: Descriptor
    root: Path
    cases: CasePlan
    shards: Mapping[Shard, tuple[Case, ...]]
    """Without cases where a run was opened again from its folder."""
    text: str
    """The descriptor with what its preset filled in: the run folder keeps a copy."""


@dataclass(frozen=True, slots=True)
class RunPlan:
    """A run, resolved: every name is content from here on."""

    settings: Settings
    sources: Mapping[str, SourcePlan]
    vocabulary: Vocabulary
    prompts: tuple[Prompt, ...]

    @property
    def shards(self) -> list[Shard]:
        """All shards, source by source."""
        return [shard for source in self.sources.values() for shard in source.shards]

    def job(self, store: Store) -> Job:
        """Return what workers are sent."""
        return Job(
            store,
            self.settings,
            {name: source.descriptor for name, source in self.sources.items()},
            {name: str(source.root) for name, source in self.sources.items()},
            self.vocabulary,
            self.prompts,
        )


def resolve(settings: Settings) -> RunPlan:
    """Resolve a run's names: sources, vocabulary, prompts.

    Raises:
        UserError: A fault in a file or flag: one line.
    """
    vocabulary = load_vocabulary()
    sources: dict[str, SourcePlan] = {}
    for name in settings.sources:
        plan = open_source(name, settings, vocabulary)
        if plan.descriptor.id in sources:
            raise UserError(f"source {plan.descriptor.id} is given twice")
        sources[plan.descriptor.id] = plan
    if not sources:
        raise UserError("no source is given; name a catalog entry or a descriptor file")
    shards = {name: next(iter(source.shards)).count for name, source in sources.items()}
    settings = settings.model_copy(update={"shards": {**settings.shards, **shards}})
    return RunPlan(settings, sources, vocabulary, tuple(_prompts(settings)))


def copy_of(source: str) -> str:
    """Return the run folder's own copy of a descriptor: later stages and the report need no other."""
    return f"sources/{source}.yaml"


def reopened(store: Store, manifest: Manifest, settings: Settings) -> RunPlan:
    """Open a run from its folder alone: its data may be gone, or on another machine.

    Raises:
        UserError: It has not been through ingest.
    """
    vocabulary = load_vocabulary()
    sources = {}
    for name in settings.shards:
        if not store.exists(copy_of(name)):
            continue
        text = store.text(copy_of(name))
        descriptor = descriptors.parse(text, copy_of(name))
        files = [PurePosixPath(file) for file in manifest.lines if file.startswith(f"records/{name}/")]
        shards = [Shard(name, *map(int, file.stem.split("-of-"))) for file in sorted(files)]
        sources[name] = SourcePlan(descriptor, Path(), CasePlan((), (), {}), dict.fromkeys(shards, ()), text)
    if not any(source.shards for source in sources.values()):
        raise UserError(f"{store.url} has not been through ingest; run `medgloss ingest` first")
    return RunPlan(settings, sources, vocabulary, tuple(_prompts(settings)))


def open_source(name: str, settings: Settings, vocabulary: Vocabulary) -> SourcePlan:
    """Read a descriptor, list its cases and cut them.

    Raises:
        UserError: A fault in the file, or its data is not there.
    """
    path = discovery.find("source", "sources/catalog", ".yaml", name)
    folder = path.resolve().parent
    text = preset.expanded(read_text(path), str(path), lambda source, root: root_of(source, root, folder, settings))
    descriptor = descriptors.parse(text, str(path))
    for modality in (descriptor.modality, *descriptor.modalities.values()):
        if "{" not in modality:
            vocabulary.modality(modality, descriptor.id)
    _check_terms(descriptor, vocabulary)
    root = root_of(descriptor.id, descriptor.root, folder, settings)
    found = source_cases.plan(descriptor, root)
    readable = next((case for case in found.cases if case.files.get("image")), None)
    form = form_of(readable, descriptor) if readable else "picture"
    count = settings.shards.get(descriptor.id) or count_for(len(found.cases), form)
    return SourcePlan(descriptor, root, found, cut(descriptor.id, found.cases, count), text)


def _check_terms(descriptor: Descriptor, vocabulary: Vocabulary) -> None:
    for key, group in (("department", "departments"), ("task", "tasks")):
        value, terms = getattr(descriptor, key), getattr(vocabulary.terms, group)
        if value and value not in [term.en for term in terms]:
            raise UserError(f"{descriptor.id}: unknown {key} {value!r}; Known: {', '.join(term.en for term in terms)}")
    for window in (descriptor.display.window, *descriptor.display.also):
        if window and window.preset and window.preset not in ("header", "organ"):
            vocabulary.window(window.preset, descriptor.id)


def root_of(source: str, root: str, folder: Path, settings: Settings) -> Path:
    """Return the folder of a source's data: `--root`, then `--data`, then beside the descriptor.

    Args:
        source: Its id.
        root: What the descriptor says.
        folder: Where the descriptor lies.
        settings: Of the run.
    """
    if source in settings.roots:
        return Path(settings.roots[source]).resolve()
    if settings.data:
        data = Path(settings.data).resolve()
        named = data / (root if root != "." else source)
        return named if named.is_dir() else data / source
    return (folder / root).resolve()


def _prompts(settings: Settings) -> Iterator[Prompt]:
    """Return the run's prompts: those named, else all that the default backend can answer."""
    templates_only = settings.backends["default"].backend == "template"
    names = settings.prompts or prompting.available()
    for prompt in prompting.load(names, settings.languages):
        checks.known(prompt)
        is_template = prompt.head.backend == "template"
        if settings.prompts and templates_only and not is_template:
            raise UserError(f"prompt {prompt.name} needs a model; give --backend and --model")
        plain_double = is_template and ".plain" in prompt.name
        if settings.prompts or (is_template if templates_only else not plain_double):
            yield prompt


# ---- fingerprints and tasks


_ABOUT = {"title", "citation", "url", "checked", "unverified", "expect", "root"}
"""Keys of a descriptor on which no record depends."""


def _case_fingerprint(run: RunPlan, shard: Shard) -> str:
    source = run.sources[shard.source]
    described = source.descriptor.model_dump(mode="json", exclude=_ABOUT)
    described["annotations"] = [spec.model_dump(mode="json") for spec in source.descriptor.specs]
    states = [source_cases.fingerprint(case, source.root, run.settings.hash_files) for case in source.shards[shard]]
    return digest([VERSIONS["ingest"], described, run.vocabulary.digest, states])


def _generate_fingerprint(run: RunPlan, shard: Shard, manifest: Manifest, space: Sequence[Label]) -> str:
    settings = run.settings
    backends = {role: (spec.backend, spec.model) for role, spec in settings.backends.items()}
    egress = [(r, s.base_url, s.zero_retention, s.allow_local_data) for r, s in sorted(settings.backends.items())]
    guarded = run.sources[shard.source].descriptor.egress not in ("any", "none")
    return digest(
        [
            VERSIONS["generate"],
            manifest.lines[files_of("ingest", shard)[0]].sha256,
            [(prompt.name, prompt.language, prompt.digest) for prompt in run.prompts],
            backends,
            egress if guarded else None,
            settings.max_side,
            settings.seed,
            space,
            run.vocabulary.digest,
        ]
    )


def _curate_fingerprint(run: RunPlan, shard: Shard, manifest: Manifest) -> str:
    inputs = [manifest.lines[files_of(stage, shard)[0]].sha256 for stage in ("ingest", "generate")]
    return digest([VERSIONS["curate"], inputs, run.settings.splits.model_dump(), run.settings.seed])


def export_fingerprint(run: RunPlan, manifest: Manifest) -> str:
    """Return the digest of all that the training set is made from."""
    inputs = [manifest.lines[files_of(stage, shard)[0]].sha256 for shard in run.shards for stage in CASE_STAGES]
    entries = [source.descriptor for source in run.sources.values()]
    described = [entry.model_dump(mode="json", exclude={"root", "annotations"}) for entry in entries]
    return digest([VERSIONS["export"], inputs, described, run.vocabulary.digest])


def tasks(stage: Stage, run: RunPlan, store: Store, manifest: Manifest) -> list[Task]:
    """Return the shards of a stage that are out of date.

    Raises:
        UserError: The stage before has not been run.
    """
    check_before(stage, run, manifest)
    spaces = {name: label_space(run, name, store) for name in run.sources} if stage == "generate" else {}
    found = []
    for shard in run.shards:
        space = spaces.get(shard.source, ())
        fingerprint = {
            "ingest": lambda s: _case_fingerprint(run, s),
            "generate": lambda s: _generate_fingerprint(run, s, manifest, spaces[s.source]),
            "curate": lambda s: _curate_fingerprint(run, s, manifest),
        }[stage](shard)
        if not all(manifest.done(file, fingerprint) for file in files_of(stage, shard)):
            cases = run.sources[shard.source].shards[shard] if stage == "ingest" else ()
            found.append(Task(stage, shard, fingerprint, cases, tuple(space)))
    return found


def check_before(stage: Stage, run: RunPlan, manifest: Manifest) -> None:
    """Refuse a stage whose input is not there.

    Raises:
        UserError: Names the stage to run first.
    """
    order: tuple[Stage, ...] = (*CASE_STAGES, "export")
    for before in order[: order.index(stage)]:
        missing = [shard for shard in run.shards if files_of(before, shard)[0] not in manifest.lines]
        if missing:
            many = f"{len(missing)} shards have not been through {before}"
            raise UserError(f"{stage}: {many}; run `medgloss {before}` first")


def label_space(run: RunPlan, source: str, store: Store) -> tuple[Label, ...]:
    """Return all labels of a source's records, sorted: where distractors come from."""
    found: set[tuple[str, Any]] = set()
    for shard in run.sources[source].shards:
        for row in read_table(store, files_of("ingest", shard)[0], ["regions"]).column("regions").to_pylist():
            found |= {(region["label"], region["side"]) for region in row if region["label"]}
    return tuple(Label(concept, side) for concept, side in sorted(found, key=lambda label: (label[0], label[1] or "")))


def stale_files(run: RunPlan, manifest: Manifest) -> list[str]:
    """Return files of the run's sources that belong to no present shard: their cases are gone."""
    present = {file for shard in run.shards for stage in CASE_STAGES for file in files_of(stage, shard)}
    mine = tuple(f"/{name}/" for name in run.sources)
    kinds = ("records/", "samples/", "curated/", "rejected/")
    return [
        file
        for file in manifest.lines
        if file.startswith(kinds) and file not in present and any(part in file for part in mine)
    ]
