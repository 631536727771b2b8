"""cost: what an execution has used, and what that costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...plurals import counted
from ..failure import WrongUse
from ..options import DataOption, JsonOption, read_text
from ..output import command, echo, print_json, show, table
from ..recordings import RecordedArgument, recording_of

if TYPE_CHECKING:
    from ...engine.prices import Prices


@command
def cost(
    recorded: RecordedArgument,
    data: DataOption = None,
    prices: Annotated[
        str | None,
        typer.Option(
            "--prices", metavar="NAME|FILE", help="Price table: a name of this release, or a JSON or YAML file."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compute what each step of an execution has used, from its log alone, and what that costs.

    Counts the time that workers were busy, commands, and bytes by tier, sub-playbooks included. The cost is an upper
    bound at the list prices of the table's date: it assumes that each command had a function to itself.
    """
    from ...inspection.cost import cost as count

    chosen = _prices(prices)
    documents = [
        count(found.execution_id, found.events, chosen) for found in recording_of(recorded, data).with_descendants()
    ]
    document = {**documents[0], "children": documents[1:], "with_children": _sum(documents)}
    if as_json:
        print_json(document)
    else:
        _show(document)


def _prices(name: str | None) -> Prices:
    from ...prices import DEFAULT_PRICES, PRICES, BadPrices, load, parse

    if name is None or name in PRICES:
        return load(name or DEFAULT_PRICES)
    import yaml

    try:
        return parse(yaml.safe_load(read_text(name)))
    except (BadPrices, yaml.YAMLError) as error:
        raise WrongUse(f"{name}: {error}; the price tables of this release are {', '.join(PRICES)}") from None


def _sum(documents: list[dict[str, Any]]) -> dict[str, Any]:
    totals = [document["total"] for document in documents]
    names = ("invocations", "billed_ms", "busy_ms", "cost")
    return {"executions": len(totals), **{name: round(sum(total[name] for total in totals), 12) for name in names}}


def _show(document: dict[str, Any]) -> None:
    total, table_of = document["total"], document["prices"]
    rows = [(row["step"], *_cells(row)) for row in [*document["steps"], {"step": "total", **total}]]
    show(table(("step", "runs", "commands", "wall s", "billed s", "bytes", document["currency"]), rows))
    state = "" if document["ended"] else " so far"
    echo(f"workers were busy for {total['busy_ms'] / 1000:.3f} s{state}")
    if total["quarantined_ms"]:
        echo(f"the wall time includes {total['quarantined_ms'] / 1000:.3f} s in quarantine")
    if document["children"]:
        family = document["with_children"]
        children = counted(len(document["children"]), "sub-playbook")
        what = f"{children}: {counted(family['invocations'], 'command')}"
        echo(f"with {what}, {_money(family['cost'])} {document['currency']}")
    echo(f"prices: {table_of['name']} of {table_of['date']}, {table_of['region']}. {table_of['note']}")


def _cells(row: dict[str, Any]) -> tuple[Any, ...]:
    sizes = ", ".join(f"{tier} {size}" for tier, size in row["bytes"].items())
    seconds = (f"{row['wall_ms'] / 1000:.3f}", f"{row['billed_ms'] / 1000:.3f}")
    return row["runs"], row["invocations"], *seconds, sizes, _money(row["cost"])


def _money(value: float) -> str:
    return f"{value:.9f}"
