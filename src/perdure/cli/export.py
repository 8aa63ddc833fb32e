"""`perdure export`: turn a model folder into a clean one, as safetensors."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import click

import perdure
from perdure.cli.common import human_bytes, json_option

_EXAMPLES = """\b
Examples:
  perdure export downloads/old-model out                 from pytorch_model.bin to safetensors
  perdure export runs/a/checkpoint-200 out --dtype bf16
  perdure export out smaller --max-shard-size 500MB
"""


@click.command(epilog=_EXAMPLES)
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--max-shard-size", default="5GB", show_default=True, metavar="SIZE", help="Of one file of weights.")
@click.option("--dtype", type=click.Choice(["bf16", "fp16", "fp32"]), help="Convert floating-point weights.")
@json_option
def command(source: Path, out: Path, max_shard_size: str, dtype: str | None, as_json: bool) -> None:
    """Write the model in the folder SOURCE into the folder OUT.

    The weights become safetensors; configurations, tokenizer, custom code and card come along, training state does
    not. What perdure saved is compared with its manifest on the way. OUT is replaced only when all is written.
    """
    try:
        saved = perdure.export(source, out, max_shard_size=max_shard_size, dtype=dtype)
    except perdure.Corrupt as error:
        error.hint = _instead(source, out) or error.hint
        raise
    for warning in saved.warnings:
        click.echo(f"Warning: {warning}", err=True)
    if as_json:
        document = {"path": str(saved.path), "kind": saved.kind, "bytes": saved.bytes, "files": dict(saved.digests)}
        click.echo(json.dumps({**document, "warnings": saved.warnings}, indent=2))
    else:
        count = len(saved.files)
        files = f"{count} {'file' if count == 1 else 'files'}"
        click.echo(f"{saved.path}: {saved.kind} in {files}, {human_bytes(saved.bytes)}")


def _instead(damaged: Path, out: Path) -> str:
    """What to type to export the newest whole checkpoint of the run that a damaged one is of."""
    if re.fullmatch(r"checkpoint-\d+", damaged.name) is None:
        return ""
    others = [one.path for one in perdure.checkpoints(damaged.parent) if one.state == "whole"]
    whole = next((path for path in reversed(others) if path != damaged and perdure.verify(path).ok), None)
    return f"The newest that is whole: {shlex.join(['perdure', 'export', str(whole), str(out)])}" if whole else ""
