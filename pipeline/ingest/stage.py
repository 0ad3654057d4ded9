"""The ingest stage: a case in, its records and what was left out."""

from pipeline.errors import Unusable
from pipeline.ingest import flat, planar, scans
from pipeline.ingest.reading import Read, Reading, keep
from pipeline.ingest.source import Source
from pipeline.records import Case
from sources.cases import form_of
from sources.templates import fill

_DICOM_MAGIC = slice(128, 132)


def read_case(case: Case, source: Source) -> Read:
    """Read one case: every picture of it ends as a record, not selected, or rejected; a bad file is one row."""
    out = Read()
    try:
        _read(case, source, out)
    except Unusable as error:
        out = _unread(case, error.reason, error.detail)
    except OSError as error:
        out = _unread(case, "unreadable", error.strerror or type(error).__name__)
    except MemoryError:
        out = _unread(case, "too_large", "does not fit into memory")
    if not out.records and not any(row.level == "case" for row in out.rejected):
        detail = "no picture of it was kept; its pictures and regions say why"
        out.reject(f"{case.source}/{case.id}", "case", "nothing_kept", detail)
    return out


def _unread(case: Case, reason: str, detail: str) -> Read:
    out = Read()
    out.reject(f"{case.source}/{case.id}", "case", reason, detail)
    return out


def _read(case: Case, source: Source, out: Read) -> None:
    if case.problem:
        raise Unusable(*case.problem)
    terms = source.terms(case)
    annotations = source.annotations(case)
    looked_for = source.looked_for(spec for spec, _ in annotations)
    reading = Reading(case, source, terms, source.modality(case), annotations, looked_for, out)
    form = _form(case, source)
    if form == "rows" and source.descriptor.cases.rows and source.descriptor.cases.rows.text is not None:
        _read_text(reading)
    elif form == "volume":
        scans.read_volumes(reading)
    elif form == "series":
        scans.read_series(reading)
    elif form == "dicom":
        flat.read_dicom(reading, reading.paths[0], "")
    else:
        flat.read(reading, form)


def _form(case: Case, source: Source) -> str:
    """Return how a case is read; a DICOM file is known by its content whatever its name.

    `dicom` is a DICOM file that the descriptor wants read as a picture, wherever in the patient it lies.
    """
    form = form_of(case, source.descriptor)
    if form != "picture":
        return form
    with (source.root / case.files["image"][0]).open("rb") as file:
        if file.read(132)[_DICOM_MAGIC] != b"DICM":
            return "picture"
    return "dicom" if source.descriptor.cases.form else "series"


def _read_text(reading: Reading) -> None:
    spec = reading.source.descriptor.cases.rows
    assert spec is not None
    assert spec.text is not None
    reading.out.tally.pictures_cut += 1
    text = fill(spec.text, reading.case.captures).strip()
    laid = planar.of_text(reading.annotations, reading.source)
    keep(reading, f"{reading.id}/text", None, laid, (), text=text)
