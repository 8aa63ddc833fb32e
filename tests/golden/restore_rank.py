"""One of the processes that restore the checkpoint of two, under torchrun: writes down what came back.

Arguments: the run's folder, and a folder for what was found.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from make import Run, values_of

import perdure

torch.distributed.init_process_group("gloo")
run = Run()
with perdure.Checkpointer(sys.argv[1]) as ckpt:
    step = ckpt.restore(run.state)
found = {"step": step, "notes": run.notes.value, "values": values_of(run)}
(Path(sys.argv[2]) / f"{torch.distributed.get_rank()}.json").write_text(json.dumps(found))
torch.distributed.destroy_process_group()
