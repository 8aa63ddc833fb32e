"""perdure: what happens to a model after each training step and after the last one.

Save, checkpoint, describe, check and publish fine-tuned models, so that nothing is lost. Every public name
is here and loads on first use: `import perdure` alone loads neither torch nor transformers.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perdure.card.card import Card
    from perdure.card.check import Finding
    from perdure.card.facts import BaseModel, Dataset, Evaluation, Facts, License, Quantization, Weights
    from perdure.card.training import Energy, Hardware, Method, Source, Training
    from perdure.checkpoint.catalog import CheckpointInfo, checkpoints
    from perdure.checkpoint.checkpointer import Checkpointer
    from perdure.checkpoint.policy import Every, Keep, Retention
    from perdure.checks.verify import Problem, Verification, verify
    from perdure.errors import (
        AlreadyExists,
        CheckFailed,
        Conflict,
        Corrupt,
        HubError,
        InvalidInput,
        MissingDependency,
        NotFound,
        PerdureError,
        Rejected,
        SaveFailed,
        StateMismatch,
        Unauthorized,
        Unavailable,
        UnsupportedFormat,
    )
    from perdure.integrations.attach import Attachment, attach
    from perdure.integrations.base_card import facts_of
    from perdure.integrations.describe import describe
    from perdure.integrations.finish import Finished, finish
    from perdure.model.export import export
    from perdure.model.read import WeightsReader, open_weights
    from perdure.model.save import save_model
    from perdure.model.saved import SavedModel
    from perdure.publishing.evaluate import evaluate
    from perdure.publishing.job import Job
    from perdure.publishing.outbox import Outbox
    from perdure.publishing.promote import promote
    from perdure.publishing.promotion import Promotion
    from perdure.publishing.publish import publish
    from perdure.publishing.pull import Pulled, pull
    from perdure.publishing.push_plan import PushPlan
    from perdure.publishing.receipt import Receipt
    from perdure.publishing.record import record_results
    from perdure.publishing.revision import Revision
    from perdure.publishing.revisions import revisions
    from perdure.state.state import State

__version__ = "0.1.0.dev0"

# module → the public names that live there
_NAMES = {
    "perdure.card.card": ("Card",),
    "perdure.card.check": ("Finding",),
    "perdure.card.facts": (
        "BaseModel", "Dataset", "Evaluation", "Facts", "License", "Quantization", "Weights",
    ),
    "perdure.card.training": ("Energy", "Hardware", "Method", "Source", "Training"),
    "perdure.checkpoint.catalog": ("CheckpointInfo", "checkpoints"),
    "perdure.checkpoint.checkpointer": ("Checkpointer",),
    "perdure.checkpoint.policy": ("Every", "Keep", "Retention"),
    "perdure.checks.verify": ("Problem", "Verification", "verify"),
    "perdure.errors": (
        "AlreadyExists", "CheckFailed", "Conflict", "Corrupt", "HubError", "InvalidInput", "MissingDependency",
        "NotFound", "PerdureError", "Rejected", "SaveFailed", "StateMismatch", "Unauthorized", "Unavailable",
        "UnsupportedFormat",
    ),
    "perdure.integrations.attach": ("Attachment", "attach"),
    "perdure.integrations.base_card": ("facts_of",),
    "perdure.integrations.describe": ("describe",),
    "perdure.integrations.finish": ("Finished", "finish"),
    "perdure.model.export": ("export",),
    "perdure.model.read": ("WeightsReader", "open_weights"),
    "perdure.model.save": ("save_model",),
    "perdure.model.saved": ("SavedModel",),
    "perdure.publishing.evaluate": ("evaluate",),
    "perdure.publishing.job": ("Job",),
    "perdure.publishing.outbox": ("Outbox",),
    "perdure.publishing.promote": ("promote",),
    "perdure.publishing.promotion": ("Promotion",),
    "perdure.publishing.publish": ("publish",),
    "perdure.publishing.pull": ("Pulled", "pull"),
    "perdure.publishing.push_plan": ("PushPlan",),
    "perdure.publishing.receipt": ("Receipt",),
    "perdure.publishing.record": ("record_results",),
    "perdure.publishing.revision": ("Revision",),
    "perdure.publishing.revisions": ("revisions",),
    "perdure.state.state": ("State",),
}  # fmt: skip
_HOME = {name: module for module, names in _NAMES.items() for name in names}

__all__ = [
    "AlreadyExists",
    "Attachment",
    "BaseModel",
    "Card",
    "CheckFailed",
    "CheckpointInfo",
    "Checkpointer",
    "Conflict",
    "Corrupt",
    "Dataset",
    "Energy",
    "Evaluation",
    "Every",
    "Facts",
    "Finding",
    "Finished",
    "Hardware",
    "HubError",
    "InvalidInput",
    "Job",
    "Keep",
    "License",
    "Method",
    "MissingDependency",
    "NotFound",
    "Outbox",
    "PerdureError",
    "Problem",
    "Promotion",
    "Pulled",
    "PushPlan",
    "Quantization",
    "Receipt",
    "Rejected",
    "Retention",
    "Revision",
    "SaveFailed",
    "SavedModel",
    "Source",
    "State",
    "StateMismatch",
    "Training",
    "Unauthorized",
    "Unavailable",
    "UnsupportedFormat",
    "Verification",
    "Weights",
    "WeightsReader",
    "__version__",
    "attach",
    "checkpoints",
    "describe",
    "evaluate",
    "export",
    "facts_of",
    "finish",
    "open_weights",
    "promote",
    "publish",
    "pull",
    "record_results",
    "revisions",
    "save_model",
    "verify",
]


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'perdure' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
