"""How a file that speaks of many cases calls them: by name, by path, by a part of it."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from pipeline.propose import patterns
from pipeline.propose.pairs import MOST_EXAMPLES
from pipeline.records import Case
from sources.listing import built_in

ByName = Mapping[str, Sequence[Case]]


def by_name(cases: Sequence[Case]) -> ByName:
    """Return cases by the name of their file in lower case, with and without its suffix."""
    found: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        for name in dict.fromkeys((case.captures["name"].casefold(), case.captures["stem"].casefold())):
            found[name].append(case)
    return found


def case_of(told: str, where: str, named: ByName) -> Case | None:
    """Return the case that a text means, or None.

    Args:
        told: A name or path.
        where: The file that says so: of several cases of one name, its folders or name tell which.
        named: From `by_name`.
    """
    text = told.replace("\\", "/")
    alike = list(named.get(text.rpartition("/")[2].casefold(), ()))
    if len(alike) > 1 and "/" in text:
        alike = [case for case in alike if f"/{case.captures['path']}".endswith(f"/{text.lstrip('/')}")]
    if len(alike) > 1:
        said = {*where.split("/")[:-1], *built_in(where)["stem"].replace("-", "_").split("_")}
        alike = [case for case in alike if not said.isdisjoint(case.captures["folder"].split("/"))]
    return alike[0] if len(alike) == 1 else None


def match(pairs: Sequence[tuple[str, Case]]) -> str | None:
    """Return the template that gives each text from its case, or None."""
    examples = pairs[:: max(1, len(pairs) // MOST_EXAMPLES)]
    for aspect in ("name", "path", "stem"):
        if examples and all(case.captures[aspect] == told for told, case in examples):
            return f"{{{aspect}}}"
    return patterns.explained([told for told, _ in examples], columns([case for _, case in examples]))


def columns(cases: Sequence[Case]) -> dict[str, list[str]]:
    """Return what is captured of all of some cases."""
    shared = set.intersection(*(set(case.captures) for case in cases)) if cases else set()
    return {name: [case.captures[name] for case in cases] for name in sorted(shared - {"path", "suffix", "folder"})}
