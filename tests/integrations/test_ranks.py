"""Two processes under torchrun: one writes, both know how it went."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from perdure.checks.verify import verify

PROGRAM = """
import json, os, sys
from pathlib import Path
sys.path.insert(0, os.environ["TESTS"])
import torch.distributed as dist
from datasets import Dataset
from tiny_models import make_model, make_tokenizer
from trl import SFTConfig, SFTTrainer
from perdure.errors import PerdureError
from perdure.integrations.finish import finish

out = Path(os.environ["OUT"])
tokenizer = make_tokenizer(["What is 1 plus 2?"])
data = Dataset.from_list([{"prompt": f"{n}?", "completion": f"{n}."} for n in range(8)])
args = SFTConfig(output_dir=str(out), max_steps=2, use_cpu=True, bf16=False, report_to="none", save_strategy="no",
                 per_device_train_batch_size=1, max_length=32, disable_tqdm=True)
trainer = SFTTrainer(model=make_model(tokenizer), args=args, train_dataset=data, eval_dataset=data,
                     processing_class=tokenizer)
assert trainer.args.world_size == 2
trainer.train()
rank = trainer.args.process_index
told = {}
try:
    done = finish(trainer, output_dir=os.environ.get("TARGET"))
    told = {"saved": done.saved is not None, "card": done.card is not None, "loss": done.metrics["eval_loss"]}
except PerdureError as error:
    told = {"error": type(error).__name__, "message": str(error)}
Path(os.environ["OUT"] + f".{rank}.json").write_text(json.dumps(told))
dist.destroy_process_group()
"""


def launch(tmp_path: Path, **environment: str) -> list[dict[str, object]]:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    out = tmp_path / "out"
    torchrun = subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", str(program)],
        env={
            **os.environ,
            "TESTS": str(Path(__file__).parent),
            "OUT": str(out),
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "CI": "1",
            **environment,
        },
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        _, errors = torchrun.communicate(timeout=200)
    except BaseException:
        torchrun.terminate()  # it ends its ranks, which lead sessions of their own; killed, it would leave them behind
        torchrun.communicate(timeout=60)
        raise
    assert torchrun.returncode == 0, errors[-3000:]
    return [json.loads(Path(f"{out}.{rank}.json").read_text()) for rank in (0, 1)]


def test_the_main_process_writes_and_all_evaluate(tmp_path):
    main, other = launch(tmp_path)
    assert (main["saved"], main["card"]) == (True, True)
    assert (other["saved"], other["card"]) == (False, False)
    assert main["loss"] == other["loss"]
    assert verify(tmp_path / "out").ok
    assert "`world_size` | `2`" in (tmp_path / "out" / "README.md").read_text()


def test_an_error_on_the_main_process_reaches_all(tmp_path):
    (tmp_path / "filé").write_text("in the way")
    main, other = launch(tmp_path, TARGET=str(tmp_path / "filé" / "out"))
    assert main == other
    assert main["error"] in ("SaveFailed", "InvalidInput")
    assert str(main["message"]).startswith("Rank 0: ")
