"""The export stage: from curated samples to the training set; here the canonical Parquet set and its card."""

import json
from collections import Counter
from collections.abc import Iterator

from outputs import card, parquet
from pipeline import rows
from pipeline.plan import RunPlan
from pipeline.records import Record, Shard
from pipeline.settings import SPLITS
from pipeline.store import Store, read_table
from pipeline.work import files_of

FOLDER = "dataset"


def export(run: RunPlan, store: Store) -> parquet.Written:
    """Write the training set into the run folder; the manifest goes first when it starts and comes last.

    Args:
        run: The run.
        store: Its folder.
    """
    store.remove(f"{FOLDER}/manifest.json")
    written = parquet.write(store, FOLDER, _rows(run, store), _records(run, store), run.vocabulary)
    for file in store.list(FOLDER):
        if file not in {data.file for data in written.files}:
            store.remove(file)
    store.write(
        f"{FOLDER}/README.md", card.card(_title(run), _facts(run, store), written, _counts(run, store)).encode()
    )
    store.write(f"{FOLDER}/manifest.json", _manifest(written))
    return written


def is_whole(store: Store) -> bool:
    """Is the training set there, every file that its manifest names?"""
    if not store.exists(f"{FOLDER}/manifest.json"):
        return False
    files = json.loads(store.read(f"{FOLDER}/manifest.json"))["files"]
    return all(store.exists(f"{FOLDER}/{name}") for name in ("README.md", *(file["file"] for file in files)))


def _title(run: RunPlan) -> str:
    """Name the set by its sources: the same rows make the same card, wherever the run folder lies."""
    names = list(run.sources)
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return f"medgloss: {', '.join(names[:4])}{more}"


def _manifest(written: parquet.Written) -> bytes:
    files = [{**data._asdict(), "file": data.file.removeprefix(f"{FOLDER}/")} for data in written.files]
    content = {"schema": written.schema_digest, "rows": dict(written.rows), "files": files}
    return json.dumps(content, indent=1, sort_keys=True).encode() + b"\n"


def _facts(run: RunPlan, store: Store) -> list[card.SourceFacts]:
    found = []
    for name, source in run.sources.items():
        entry = source.descriptor
        kept = [_split_of(store, shard) for shard in source.shards]
        pictures = {sample.partition("#")[0] for splits in kept for sample in splits}
        found.append(
            card.SourceFacts(
                id=name,
                title=entry.title,
                license=entry.license.name,
                redistribute=entry.license.redistribute,
                commercial=entry.license.commercial,
                egress=entry.egress,
                pictures=len(pictures),
                samples=sum(map(len, kept)),
                citation=entry.citation,
                url=entry.url,
            )
        )
    return found


def _counts(run: RunPlan, store: Store) -> dict[str, dict[str, int]]:
    """Count the kept samples by what a reader of the card wants to know."""
    names = ("kind", "modality", "department", "task", "language", "split", "made_by")
    counts: dict[str, Counter[str]] = {name: Counter() for name in names}
    for shard in run.shards:
        splits = _split_of(store, shard)
        records, samples = files_of("ingest", shard)[0], files_of("generate", shard)[0]
        facts = read_table(store, records, ["id", "modality", "department", "task"]).to_pylist()
        by_id = {row["id"]: row for row in facts}
        for row in read_table(store, samples, ["id", "records", "kind", "language", "made_by"]).to_pylist():
            if row["id"] in splits:
                record = by_id[row["records"][0]]
                counts["split"][splits[row["id"]]] += 1
                for name in ("kind", "language", "made_by"):
                    counts[name][row[name]] += 1
                for name in ("modality", "department", "task"):
                    counts[name][record[name] or "none"] += 1
    return {name: dict(found) for name, found in counts.items()}


def _split_of(store: Store, shard: Shard) -> dict[str, str]:
    """Return sample id to split, of the samples that are kept."""
    table = read_table(store, files_of("curate", shard)[0], ["id", "split", "removed"]).to_pylist()
    return {row["id"]: row["split"] for row in table if row["removed"] is None}


def _rows(run: RunPlan, store: Store) -> Iterator[parquet.Row]:
    """Yield the kept samples by split, then shard, then picture; one shard in memory at a time."""
    for split in SPLITS:
        for shard in run.shards:
            splits = _split_of(store, shard)
            if split not in splits.values():
                continue
            records = {record.id: record for record in rows.read_records(store, [files_of("ingest", shard)[0]])}
            for sample in rows.read_samples(store, [files_of("generate", shard)[0]]):
                if splits.get(sample.id) == split:
                    yield parquet.Row(sample, tuple(records[record] for record in sample.records), split)


def _records(run: RunPlan, store: Store) -> Iterator[tuple[Record, str]]:
    for split in SPLITS:
        for shard in run.shards:
            table = read_table(store, files_of("curate", shard)[0], ["record", "split", "removed"]).to_pylist()
            wanted = {row["record"] for row in table if row["removed"] is None and row["split"] == split}
            if wanted:
                for record in rows.read_records(store, [files_of("ingest", shard)[0]]):
                    if record.id in wanted:
                        yield record, split
