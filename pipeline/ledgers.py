"""The four ledgers: what was found must be what was kept plus what was left out, with a row for each.

The left sides were counted by the planner and the readers; the right sides are read from the files.
"""

from collections import Counter
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import Stopped
from pipeline.plan import CASE_STAGES, RunPlan
from pipeline.records import Shard
from pipeline.store import Manifest, Store, read_table, rows_in
from pipeline.work import files_of


@dataclass(frozen=True, slots=True)
class Ledger:
    """One balance."""

    name: str
    found: int
    kept: int
    not_selected: int
    rejected: int

    @property
    def balances(self) -> bool:
        """Is nothing lost, and nothing counted twice?"""
        return self.found == self.kept + self.not_selected + self.rejected

    def __str__(self) -> str:
        """Return the balance as a line."""
        selected = f" + {self.not_selected} not selected" if self.not_selected else ""
        sign = "=" if self.balances else "≠"
        return f"{self.name}: {self.found} {sign} {self.kept} kept{selected} + {self.rejected} rejected"


def ledgers(run: RunPlan, store: Store, manifest: Manifest, generated: bool) -> list[Ledger]:
    """Read the ledgers of a run.

    Args:
        run: The run.
        store: Its folder.
        manifest: Holds what the planner listed and the readers counted.
        generated: Has the run been through generate? Else the fourth is left out.
    """
    total: Counter[str] = Counter()
    for shard in run.shards:
        total.update(_ingested(shard, store, manifest))
        if generated:
            total.update(_generated(shard, store, manifest))
    found = [
        Ledger("cases", total["listed"], total["cases"], 0, total["case"]),
        Ledger("pictures", total["cut"], total["records"], total["not_selected"], total["record"]),
        Ledger("regions", total["found"], total["regions"], 0, total["region"]),
    ]
    if generated:
        found.append(Ledger("requests", total["requests"], total["samples"], 0, total["sample"]))
    return found


def _ingested(shard: Shard, store: Store, manifest: Manifest) -> Counter[str]:
    records, rejected = files_of("ingest", shard)
    counts = manifest.lines[records].counts
    table = read_table(store, records, ["case", "regions"])
    return Counter(
        listed=counts["cases_listed"],
        cut=counts["pictures_cut"],
        not_selected=counts["pictures_not_selected"],
        found=counts["regions_found"],
        cases=len(pc.unique(table["case"])),
        records=table.num_rows,
        regions=pc.sum(pc.list_value_length(table["regions"])).as_py() or 0,
    ) + _levels(store, rejected)


def _generated(shard: Shard, store: Store, manifest: Manifest) -> Counter[str]:
    samples, rejected = files_of("generate", shard)
    made = read_table(store, samples, ["id"]).num_rows
    return Counter(requests=manifest.lines[samples].counts["requests"], samples=made) + _levels(store, rejected)


def _levels(store: Store, file: str) -> Counter[str]:
    return Counter(read_table(store, file, ["level"])["level"].to_pylist())


def check_files(run: RunPlan, store: Store, manifest: Manifest) -> None:
    """Refuse files that do not hold the rows that were written, before anything is made from them.

    Raises:
        Stopped: Names the files and the ledgers that they unbalance, and says what to do.
    """
    damaged = _damaged(run, store, manifest)
    if not damaged:
        return
    try:
        generated = all(files_of("generate", shard)[0] in manifest.lines for shard in run.shards)
        wrong = [str(ledger) for ledger in ledgers(run, store, manifest, generated) if not ledger.balances]
    except (pa.ArrowInvalid, OSError, KeyError):
        wrong = []  # a file that is no Parquet any more: its ledger can not even be read
    files = ", ".join(damaged[:3]) + (f" and {len(damaged) - 3} more" if len(damaged) > 3 else "")
    why = f"; {'; '.join(wrong)}" if wrong else ""
    raise Stopped(f"the ledgers do not balance: not as written: {files}{why}; remove these files and run again")


def check(found: list[Ledger], run: RunPlan, store: Store, manifest: Manifest) -> None:
    """Refuse a run whose ledgers do not balance.

    Raises:
        Stopped: Names the ledgers.
    """
    check_files(run, store, manifest)
    wrong = [str(ledger) for ledger in found if not ledger.balances]
    if wrong:
        raise Stopped(f"the ledgers do not balance: {'; '.join(wrong)}; this is a fault of medgloss: please report it")


def _damaged(run: RunPlan, store: Store, manifest: Manifest) -> list[str]:
    """List the files whose number of rows is not what the manifest says."""
    files = [file for shard in run.shards for stage in CASE_STAGES for file in files_of(stage, shard)]
    lines = [manifest.lines[file] for file in files if file in manifest.lines]
    return [line.file for line in lines if not store.exists(line.file) or rows_in(store, line.file) != line.rows]
