"""``edgecell session send``."""

from pathlib import Path

import click

from edgecell.cli import json_option, report
from edgecell.errors import OutputError
from edgecell.files import several
from edgecell.optional import require

_PATIENCE_S = 30


@click.command("send", short_help="Send the result to the laboratory's system.")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--hl7", metavar="tcp://HOST:PORT", help="Send HL7 ORU^R01 over MLLP.")
@click.option(
    "--hl7-dir",
    type=click.Path(path_type=Path),
    help="Write HL7 ORU^R01 as a file into this folder, which must exist.",
)
@click.option(
    "--fhir",
    metavar="URL|@FILE|FOLDER",
    help="Send a FHIR R4 bundle to a server's base address, or write it to a folder. "
    "Give an address with a password as @FILE, a file of mode 600 that holds it.",
)
@click.option(
    "--patience",
    type=click.IntRange(0, 10**6),
    default=_PATIENCE_S,
    show_default=True,
    metavar="SECONDS",
    help="How long to keep trying if a receiver does not answer.",
)
@json_option
def send_command(
    folder: Path,
    hl7: str | None,
    hl7_dir: Path | None,
    fhir: str | None,
    patience: int,
    json_file: str | None,
) -> None:
    """Send the result of the session in FOLDER to a laboratory's information system.

    A signed report is sent as final, with the LOINC codes of manual counts. Without a
    signature the result is preliminary. The message waits in the session's file until
    the receiver acknowledges it. To deliver what still waits, run the command again;
    it needs no receiver then. A result is sent once to each receiver. If you name
    receivers, what waits for others stays where it is, and the command says so.
    """
    require("hl7", "lis")
    from edgecell.edge.outbox.delivery import check_target, fhir_target
    from edgecell.edge.outbox.outbox import open_outbox
    from edgecell.edge.outbox.result import result_of
    from edgecell.edge.record.connection import open_database
    from edgecell.edge.record.review import Review
    from edgecell.edge.report.signing import Reports

    targets = [
        *([hl7] if hl7 else []),
        *([f"hl7-dir:{hl7_dir.absolute()}"] if hl7_dir else []),
        *([fhir_target(fhir)] if fhir else []),
    ]
    for target in targets:
        check_target(target)
    if targets:
        with open_database(folder, "ro") as database:
            result = result_of(Reports(Review(folder, database)))
    with open_outbox(folder) as outbox:
        for target in targets:
            outbox.put(target, result)
        outbox.deliver(patience, targets=targets)
        messages = outbox.messages()
    lines = [f"{m.result[:12]} to {m.target}: {m.state} {m.reason}" for m in messages]
    waiting = [m for m in messages if m.state == "waiting"]
    open_ = [m for m in waiting if not targets or m.target in targets]
    if others := len(waiting) - len(open_):
        lines.append(
            f"Waiting for receivers that you did not name: {others}. Run the command "
            "without a receiver to try them again."
        )
    text = "\n".join(line.rstrip() for line in lines) or "The outbox is empty."
    report(text, {"messages": [m.to_dict() for m in messages]}, json_file)
    if open_:
        raise OutputError(
            f"{several(len(open_), 'message')} not delivered yet, and kept in the "
            f"session; run 'edgecell session send {folder}' when the receiver is back"
        )
