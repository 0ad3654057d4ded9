"""What is known of models: tokens of a picture and prices."""

import pytest

from pipeline.generate.models import cost, picture_tokens, registry
from pipeline.records import Usage

QWEN = "lingshu-medical-mllm/Lingshu-7B"


@pytest.mark.parametrize(
    ("width", "height", "tokens"), [(512, 512, 255), (640, 480, 425), (1024, 1024, 765), (2048, 4096, 1105)]
)
def test_gpt_4o_counts_tiles(width, height, tokens):
    # shared/research/serving.md, section 3: fit 2048², short side to 768, 85 + 170·⌈w/512⌉·⌈h/512⌉
    assert picture_tokens("gpt-4o", width, height) == tokens
    assert picture_tokens("gpt-4o", height, width) == tokens


def test_gpt_4o_mini_counts_a_picture_dearer():
    assert picture_tokens("gpt-4o-mini", 512, 512) == 8500


@pytest.mark.parametrize(("side", "tokens"), [(224, 64), (336, 144), (512, 324)])
def test_qwen_counts_patches_of_28_px(side, tokens):
    assert picture_tokens(QWEN, side, side) == tokens  # verified there against a real vLLM


def test_qwen_is_capped_by_max_pixels():
    assert (
        picture_tokens(QWEN, 1024, 1024) == 35 * 35
    )  # 1369 without a cap; 1003520 px leave 1001² px, 35 patches a side
    for width, height in ((4096, 4096), (1920, 1080), (1080, 1920)):
        assert 1100 < picture_tokens(QWEN, width, height) <= 1003520 / 28**2


def test_a_tiny_picture_counts_at_least_four_patches():
    assert picture_tokens(QWEN, 28, 28) == 4  # min_pixels 3136 = 4·28²


def test_an_unknown_model_is_counted_like_a_qwen():
    assert picture_tokens("never heard of", 512, 512) == 324


def test_a_price_is_per_million_and_cached_tokens_are_cheaper():
    assert cost("gpt-4o", Usage(1_000_000, 0)) == pytest.approx(2.50)
    assert cost("gpt-4o", Usage(0, 1_000_000)) == pytest.approx(10.0)
    assert cost("gpt-4o", Usage(1_000_000, 0, 1_000_000)) == pytest.approx(1.25)
    assert cost("gpt-4o-mini", Usage(1_000_000, 500_000, 400_000)) == pytest.approx(
        0.6 * 0.15 + 0.4 * 0.075 + 0.5 * 0.6
    )


def test_an_unknown_price_is_not_nothing():
    assert cost("never heard of", Usage(1_000, 1_000)) is None
    assert cost(QWEN, Usage(1_000, 1_000)) == 0.0  # an own server: known, and free


def test_every_entry_has_prices_and_a_formula():
    for name, entry in registry().items():
        assert {"input", "cached", "output"} <= set(entry), name
        assert name == "template" or entry["image"]["formula"] in ("tiles", "patches")
        assert entry["cached"] <= entry["input"] <= entry["output"]
