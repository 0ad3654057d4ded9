"""What is known of models (`models.toml`): prices, tokens of a picture. Unknown is unknown, never 0."""

import functools
import math
import tomllib
from pathlib import Path
from typing import Any

from pipeline.pictures import smart_resize
from pipeline.records import Usage


@functools.lru_cache(maxsize=1)
def registry() -> dict[str, dict[str, Any]]:
    """Read the registry."""
    return tomllib.loads((Path(__file__).parent / "models.toml").read_text(encoding="utf-8"))


def cost(model: str, usage: Usage) -> float | None:
    """Return US dollars, or None where the model's price is unknown."""
    entry = registry().get(model)
    if entry is None:
        return None
    fresh = usage.input_tokens - usage.cached_tokens
    spent = fresh * entry["input"] + usage.cached_tokens * entry["cached"] + usage.output_tokens * entry["output"]
    return float(spent) / 1e6


_QWEN = {"formula": "patches", "factor": 28, "min_pixels": 3136, "max_pixels": 1003520}


def picture_tokens(model: str, width: int, height: int) -> int:
    """Return the tokens of a picture; for an unknown model as a Qwen2.5-VL would count them.

    >>> picture_tokens("gpt-4o", 1024, 1024)
    765
    >>> picture_tokens("lingshu-medical-mllm/Lingshu-7B", 512, 512)
    324
    """
    image = (
        registry()
        .get(model, {})
        .get("image", {"formula": "patches", "factor": 28, "min_pixels": 3136, "max_pixels": 1003520})
    )
    if image["formula"] == "tiles":
        return _tiles(width, height, image["base"], image["tile"])
    high, wide = smart_resize(height, width, image["factor"], image["min_pixels"], image["max_pixels"])
    return int(high * wide // image["factor"] ** 2)


def _tiles(width: int, height: int, base: int, tile: int) -> int:
    """Fit into 2048², shrink the short side to 768, count tiles of 512² (OpenAI's vision guide)."""
    scale = min(1.0, 2048 / max(width, height))
    scale = min(scale, 768 / min(width, height))
    return base + tile * math.ceil(width * scale / 512 - 1e-9) * math.ceil(height * scale / 512 - 1e-9)
