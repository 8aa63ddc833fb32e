from __future__ import annotations

import io
from dataclasses import replace

import pytest

from perdure import Card, Facts, Training
from perdure.card.curves import CURVES, draw, picture_of

pytest.importorskip("matplotlib")

HISTORY = {
    "loss": tuple((step, 2 / (step + 1)) for step in range(500)),
    "eval_loss": ((0, 2.0), (250, 0.5), (499, float("nan"))),
    "$\\frac{reward$ _x_ <b>🦜": ((1, 0.1), (2, 0.2)),
    "_accuracy": ((1, 0.1), (2, 0.2)),
    "epoch": ((1, 1), (2, 2)),
    "once": ((1, 1),),
}
DARK = (11, 15, 25)  # the Hub's dark page


def luminance(colour: tuple[float, ...]) -> float:
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in (value / 255 for value in colour)]
    return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_the_picture_is_small_the_same_each_time_and_readable_on_light_and_dark():
    from PIL import Image

    png = draw(HISTORY)
    assert png is not None and len(png) < 100_000 and png == draw(HISTORY)
    image = Image.open(io.BytesIO(png)).convert("RGBA")
    counts = {colour: count for count, colour in image.getcolors(image.width * image.height) or ()}
    solid = {colour[:3] for colour, count in counts.items() if colour[3] == 255 and count > 20}
    assert len(solid) >= 3, "the curves and the text"
    for colour in solid:
        assert contrast(colour, (255, 255, 255)) >= 3 and contrast(colour, DARK) >= 3, colour
    assert sum(count for colour, count in counts.items() if colour[3] == 0) > image.width * image.height / 2


def test_the_card_shows_it(facts, tmp_path):
    facts = replace(facts, training=Training(history=HISTORY))
    card = Card.from_facts(facts)
    assert f"]({CURVES})" in card.text and card.pictures.keys() == {CURVES}
    card.save(tmp_path)
    assert (tmp_path / CURVES).read_bytes() == card.pictures[CURVES]
    assert Card.from_facts(facts, existing=card, curves=False).text == card.text
    assert CURVES not in Card.from_facts(facts, curves=False).text


@pytest.mark.parametrize(
    ("logged", "shown"),
    [
        ("grad_norm kl loss completions/clipped_ratio rewards/a/mean rewards/a/std rewards/b/mean reward reward_std",
         "loss, reward, rewards/a/mean, rewards/b/mean"),
        ("logps/chosen loss rewards/chosen rewards/accuracies rewards/margins eval_loss eval_rewards/margins",
         "loss, eval_loss, rewards/margins, eval_rewards/margins, rewards/accuracies"),
        ("entropy eval_loss num_tokens mean_token_accuracy", "eval_loss, mean_token_accuracy, entropy"),
    ],
)  # fmt: skip
def test_what_a_method_is_judged_by_is_drawn_first(logged, shown):
    picture = picture_of(dict.fromkeys(logged.split(), ((1, 0.5), (2, 0.25))))
    assert picture is not None and picture.description.endswith(f": {shown}")


def test_nothing_to_draw():
    assert draw({"once": ((1, 1),), "epoch": ((1, 1), (2, 2))}) is None and picture_of({}) is None
    assert CURVES not in Card.from_facts(Facts(name="x", training=Training())).text
