"""What can go wrong, and who can do something about it.

```
MedglossError
├── UserError          the user can fix it: one line, exit status 2, before the first model call
├── Stopped            the run can not go on (endpoint refuses the key, a worker died): one line, exit status 3
└── Unusable           one case, picture, region or reply is bad: one rejected row, the run goes on
```
Anything else is a bug and crashes with its traceback.
"""

import difflib
from collections.abc import Iterable


class MedglossError(Exception):
    """All that is meant to be read by a user."""


class UserError(MedglossError):
    """A mistake the user can fix; the text is one line and says what to do."""


class Stopped(MedglossError):
    """The run can not go on; what is done is kept, and the same command resumes."""


class Unusable(MedglossError):
    """One input that can not be used.

    Args:
        reason: A short code, the same in every run: `missing_image`, `truncated`, `box_outside`.
        detail: What it is and what it should be. Carries numbers and ids, never file names or header text.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type["Unusable"], tuple[str, str]]:
        """Survive the trip between processes."""
        return Unusable, (self.reason, self.detail)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean 'x'? Known: a, b" for an unknown name.

    >>> did_you_mean("caption", ["captions", "dialogue"])
    "; did you mean 'captions'? Known: captions, dialogue"
    """
    names = sorted(name if len(name) <= 60 else f"{name[:59]}…" for name in known)  # what is no header has no end
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    listed = ", ".join(names[:20]) + (f", and {len(names) - 20} more" if len(names) > 20 else "")
    return f"{hint} Known: {listed or 'none'}"
