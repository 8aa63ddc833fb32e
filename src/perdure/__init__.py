"""perdure: what happens to a model after each training step and after the last one.

Save, checkpoint, describe, check and publish fine-tuned models, so that nothing is lost. Every public name
is here and loads on first use: `import perdure` alone loads neither torch nor transformers.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perdure.check.verify import Problem, Verification, verify
    from perdure.errors import (
        AlreadyExists,
        Conflict,
        Corrupt,
        HubError,
        InvalidInput,
        MissingDependency,
        NotFound,
        PerdureError,
        Rejected,
        SaveFailed,
        Unauthorized,
        Unavailable,
        UnsupportedFormat,
    )
    from perdure.model.save import SavedModel, save_model

__version__ = "0.1.0.dev0"

# public name → the module that holds it
_HOME = {
    "AlreadyExists": "perdure.errors",
    "Conflict": "perdure.errors",
    "Corrupt": "perdure.errors",
    "HubError": "perdure.errors",
    "InvalidInput": "perdure.errors",
    "MissingDependency": "perdure.errors",
    "NotFound": "perdure.errors",
    "PerdureError": "perdure.errors",
    "Problem": "perdure.check.verify",
    "Rejected": "perdure.errors",
    "SaveFailed": "perdure.errors",
    "SavedModel": "perdure.model.save",
    "Unauthorized": "perdure.errors",
    "Unavailable": "perdure.errors",
    "UnsupportedFormat": "perdure.errors",
    "Verification": "perdure.check.verify",
    "save_model": "perdure.model.save",
    "verify": "perdure.check.verify",
}

__all__ = [
    "AlreadyExists",
    "Conflict",
    "Corrupt",
    "HubError",
    "InvalidInput",
    "MissingDependency",
    "NotFound",
    "PerdureError",
    "Problem",
    "Rejected",
    "SaveFailed",
    "SavedModel",
    "Unauthorized",
    "Unavailable",
    "UnsupportedFormat",
    "Verification",
    "__version__",
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
