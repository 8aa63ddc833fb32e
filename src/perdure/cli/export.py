"""`perdure export`: turn a model folder into a clean one, as safetensors."""

from __future__ import annotations

import json
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
    saved = perdure.export(source, out, max_shard_size=max_shard_size, dtype=dtype)
    for warning in saved.warnings:
        click.echo(f"Warning: {warning}", err=True)
    if as_json:
        document = {"path": str(saved.path), "kind": saved.kind, "bytes": saved.bytes, "files": dict(saved.digests)}
        click.echo(json.dumps({**document, "warnings": saved.warnings}, indent=2))
    else:
        click.echo(f"{saved.path}: {saved.kind} in {len(saved.files)} files, {human_bytes(saved.bytes)}")
