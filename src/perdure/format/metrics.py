"""What a metric's name says about it."""

from __future__ import annotations


def is_lower_better(name: str) -> bool:
    """Whether less of a metric is better: its name ends in "loss" or "perplexity".

    >>> is_lower_better("eval_loss"), is_lower_better("eval_accuracy")
    (True, False)
    """
    return name.endswith(("loss", "perplexity"))
