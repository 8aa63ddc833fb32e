"""`perdure card`: write, renew or check a model card."""

from __future__ import annotations

import difflib
import json
import sys
from pathlib import Path

import click

import perdure
from perdure.cli.common import json_option

_CARD = "README.md"
_EXAMPLES = """\b
Examples:
  perdure card out
  perdure card out --dry-run
  perdure card out --check
  perdure card out --template house.md.jinja --renew summary
"""


@click.command(epilog=_EXAMPLES)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--check", "only_check", is_flag=True, help="Write nothing; exit with 1 if there is something to mend.")
@click.option("--dry-run", is_flag=True, help="Write nothing; print what would change, as a diff.")
@click.option("--template", type=click.Path(path_type=Path), help="A Jinja file that extends card.md.jinja.")
@click.option("--renew", multiple=True, metavar="PART", help="A key or region to write anew all the same.")
@json_option
def command(
    folder: Path, *, only_check: bool, dry_run: bool, template: Path | None, renew: tuple[str, ...], as_json: bool
) -> None:
    """Write the README.md of a saved model in DIR, or renew it.

    What is known of the model goes into marked regions and into the metadata; what a person wrote stays. Where a person
    changed a generated part and it would say otherwise now, that is told, and left as it is: --renew PART takes ours.

    --check looks at the card as it is: metadata that the Hub refuses, placeholders, local paths, secrets, links to
    files that are not there, conflicts, and what only an author can say, such as a licence.
    """
    if only_check and (dry_run or renew):
        raise click.UsageError("--check looks at the card as it is: it goes with neither --dry-run nor --renew.")
    page = folder / _CARD
    before = perdure.Card.load(page) if page.is_file() else None
    if only_check and before is None:
        raise perdure.NotFound(f"There is no card in {folder}.", hint=f"Make one: perdure card {folder}")
    facts = perdure.facts_of(folder)
    made = perdure.Card.from_folder(folder, facts=facts, template=template, renew=renew, curves=not only_check)
    written = not (only_check or dry_run)
    if written:
        made.save(folder)
    shown = made if before is None or not only_check else perdure.Card(before.text, made.conflicts)
    findings = shown.check(folder)
    diff = _diff(before.text if before else "", made.text) if dry_run else None
    if as_json:
        found = [{"kind": one.kind, "part": one.part, "message": one.message} for one in findings]
        told = {"path": str(page), "written": written, "findings": found}
        click.echo(json.dumps(told if diff is None else {**told, "diff": diff}, indent=2))
    else:
        click.echo(diff or "", nl=False)
        for finding in findings:
            click.echo(finding, err=not only_check)
        if written:
            click.echo(f"Wrote {page}.", err=True)
    sys.exit(1 if only_check and findings else 0)


def _diff(before: str, after: str) -> str:
    lines = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), _CARD, f"{_CARD} (new)"
    )
    return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)
