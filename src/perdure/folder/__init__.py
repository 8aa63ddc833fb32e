"""A saved folder as a whole: staged, put in place at once, amended, and found whole again after an interruption."""

from perdure.folder.amend import amend
from perdure.folder.replace import recover
from perdure.folder.stage import Stage, stage

__all__ = ["Stage", "amend", "recover", "stage"]
