"""``edgecell data``."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgecell.classes import CLASSES, SEPARATOR
from edgecell.cli import json_option, report
from edgecell.data.pack_command import pack_command

if TYPE_CHECKING:
    from edgecell.data.audit import Audit, Flaw, Group

_MOST = 10
_MOST_IN_GROUP = 5
_MORE = "  ... and {} more; --json has all"


def _counts(findings: "Audit") -> list[str]:
    """Images by class and source."""
    sources = findings.counts
    widths = [max(7, len(source)) for source in sources]

    def line(name: str, numbers: Sequence[int]) -> str:
        cells = (f"{n or '-':>{w}}" for n, w in zip(numbers, widths, strict=True))
        return f"{name:<25}  {'  '.join(cells)}  {sum(numbers):>7}"

    heads = "  ".join(f"{s:>{w}}" for s, w in zip(sources, widths, strict=True))
    rows = [
        line(f"{c.code:<4} {c.name}", [n.get(c.code, 0) for n in sources.values()])
        for c in CLASSES
    ]
    sets = sorted({k for n in sources.values() for k in n if SEPARATOR in k})
    rows += [line(label, [n.get(label, 0) for n in sources.values()]) for label in sets]
    total = line("images", [sum(n.values()) for n in sources.values()])
    return [f"{'class':<25}  {heads}  {'all':>7}", *rows, total]


def _listed(title: str, lines: Sequence[str]) -> list[str]:
    """A heading with its number, and the first lines below it."""
    if not lines:
        return [f"{title}: none"]
    rest = len(lines) - _MOST
    shown = [f"  {line}" for line in lines[:_MOST]]
    more = [_MORE.format(rest)] if rest > 0 else []
    return [f"{title}: {len(lines):,}", *shown, *more]


def _groups(found: Sequence["Group"]) -> list[str]:
    """Each group in a line, the image to keep first."""
    lines = []
    for group in found:
        names = [f"{f.name} ({f.code})" for f in group.files]
        rest = len(names) - _MOST_IN_GROUP
        shown = names[:_MOST_IN_GROUP] + ([f"{rest} more"] if rest > 0 else [])
        lines.append(" = ".join(shown))
    return lines


def _flaws(found: Sequence["Flaw"]) -> list[str]:
    return [f"{flaw.file.name}: {flaw.detail}" for flaw in found]


def text(findings: "Audit") -> str:
    """The findings for people."""
    lines = [
        *_counts(findings),
        "",
        *_listed("one image, several labels", _groups(findings.conflicts)),
        *_listed("byte-identical images, groups", _groups(findings.identical)),
        *_listed("near-duplicates, groups", _groups(findings.near)),
        *_listed(
            "unreadable",
            [*_flaws(findings.unreadable), *map(": ".join, findings.unread.items())],
        ),
        *_listed("tiny", _flaws(findings.tiny)),
        *_listed("grey", _flaws(findings.grey)),
        *_listed("without a class, left out", findings.unlabelled),
    ]
    return "\n".join(lines)


@click.group("data", short_help="Check and pack training data.")
def command() -> None:
    """Check training data, and pack it for another machine."""


@command.command("audit", short_help="Find duplicates, wrong labels, broken images.")
@click.argument("data", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--strict", is_flag=True, help="Exit status 1 if anything is found.")
@json_option
@click.pass_context
def audit_command(
    ctx: click.Context, data: tuple[Path, ...], strict: bool, json_file: str | None
) -> None:
    """Find what is wrong with DATA: folders or zip files of cell images.

    Finds byte-identical images, also across sources; near-duplicates (rotated,
    mirrored, re-saved, brightened or slightly shifted); one image under several
    labels; images that are unreadable, tiny or grey; and images of no known class.
    The directory above an image names its class, else a file name such as BA_12.jpg.
    NEU, IG and BNE|SNE name sets of classes that the data do not distinguish.
    """
    from edgecell.data.audit import audit
    from edgecell.data.dataset import read

    reading = read(data)
    findings = audit(reading.files, reading.unlabelled, reading.unreadable)
    report(text(findings), findings.to_dict(), json_file)
    ctx.exit(1 if strict and not findings.clean else 0)


command.add_command(pack_command)
