"""What GRsNet and the networks that it is compared with cost, counted the same way.

python -m edgecell.benchmarks peers benchmarks/results/peers.csv
"""

from pathlib import Path

import click

from edgecell.benchmarks.networks.paper import PAPER_GFLOPS, PAPER_MPARAMETERS
from edgecell.cli import OutputFile, PoliteCommand
from edgecell.files import csv_text, write_atomically
from edgecell.train.networks.cost import count
from edgecell.train.networks.models import build_model, model_names


@click.command("peers", cls=PoliteCommand, no_args_is_help=True)
@click.argument("out", type=OutputFile("CSV"))
def command(out: Path) -> None:
    """Count parameters and FLOPs of every network.

    Writes OUT, a CSV file with a row for each network.
    """
    columns = ("network", "mparameters", "gflops", "paper_mparameters", "paper_gflops")
    rows = []
    for name in model_names():
        cost = count(build_model(name))
        rows.append(
            (
                name,
                f"{cost.parameters / 1e6:.2f}",
                f"{cost.flops / 1e9:.2f}",
                PAPER_MPARAMETERS.get(name, ""),
                PAPER_GFLOPS.get(name, ""),
            )
        )
    text = csv_text(columns, rows)
    write_atomically(out, text)
    click.echo(text, nl=False)


if __name__ == "__main__":
    command()
