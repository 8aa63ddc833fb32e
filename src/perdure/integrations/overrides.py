"""The methods of transformers' `Trainer` that a user's own class replaces."""

from __future__ import annotations

from typing import Any

SAVE_MODEL = ("save_model", "_save")
BOUNDARY = "_maybe_log_save_evaluate"
SAVE_STATE = ("_save_optimizer_and_scheduler", "_save_scaler", "_save_rng_state")
_KNOWN = ("transformers.", "trl.", "perdure.")  # what they replace adds nothing to what perdure writes


def overrides(trainer: Any, *names: str) -> list[str]:
    """Those of the methods `names` that a trainer has of its own, as `Class.method`."""
    places = [("trainer", vars(trainer))]
    for cls in type(trainer).__mro__:
        if not f"{cls.__module__}.".startswith(_KNOWN):
            places.append((cls.__qualname__.rpartition(".")[2], vars(cls)))
    return [f"{place}.{name}" for place, found in places for name in names if name in found]


def saves_its_own_way(trainer: Any) -> list[str]:
    """Classes of TRL that a trainer is of, and that log and save without calling transformers' own method for it."""
    return [
        cls.__name__ for cls in type(trainer).__mro__ if cls.__module__.startswith("trl.") and BOUNDARY in vars(cls)
    ]
