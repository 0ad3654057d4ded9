"""From the text of a reply to its parsed value: JSON against the prompt's schema."""

import json
from typing import Any

from pydantic import BaseModel, ValidationError

from pipeline.errors import Unusable


def parse(text: str, model: type[BaseModel]) -> dict[str, Any]:
    """Parse a reply.

    Args:
        text: As the model wrote it; a Markdown fence around the JSON is taken off.
        model: What the prompt head's `reply:` asks for.

    Raises:
        Unusable: `reply_empty`, `reply_not_json`, `reply_schema`.
    """
    bare = text.strip()
    if bare.startswith("```") and bare.endswith("```"):
        bare = bare[3:-3].removeprefix("json").strip()
    if not bare:
        raise Unusable("reply_empty", "the reply has no text")
    try:
        # strict=False: grammars let raw control characters through in about 1 % of constrained replies
        value = json.loads(bare, strict=False)
    except (ValueError, RecursionError) as error:  # a runaway reply of brackets nests deeper than the parser goes
        raise Unusable("reply_not_json", f"{str(error)[:100]}") from None
    try:
        return model.model_validate(value).model_dump()
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise Unusable("reply_schema", f"{where or 'reply'}: {fault['msg'][:100]}") from None
