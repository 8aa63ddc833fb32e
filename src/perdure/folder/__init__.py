"""A saved folder as a whole: staged, put in place at once, amended, and found whole again after an interruption."""

from perdure.folder.amend import amend, record
from perdure.folder.replace import is_interrupted, recover
from perdure.folder.stage import Stage, stage

__all__ = ["Stage", "amend", "is_interrupted", "record", "recover", "stage"]
