"""A saved folder as a whole: staged, put in place at once, amended, and found whole again after an interruption."""

from perdure.folder.commit import Stage, stage
from perdure.folder.edit import amend, record
from perdure.folder.replace import is_interrupted, recover

__all__ = ["Stage", "amend", "is_interrupted", "record", "recover", "stage"]
