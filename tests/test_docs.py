"""What the documents say is there: links lead somewhere, printed commands parse."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from edgecell import __version__
from edgecell.benchmarks.__main__ import cli as benchmarks
from edgecell.cli import cli

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *ROOT.glob("edge/samples/*.md")]
)


def headings(page: Path) -> set[str]:
    """The anchors of a page, as GitHub makes them."""
    lines = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    kept = (re.sub(r"[^\w\- ]", "", line.lower()) for line in lines)
    return {line.replace(" ", "-") for line in kept}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        linked = page.parent / file if file else page
        assert linked.exists(), target
        if anchor:
            assert anchor in headings(linked), target


def printed_commands() -> Iterator[tuple[str, str]]:
    """Every ``edgecell ...`` line in a code block, continued lines joined."""
    for page in PAGES:
        for block in page.read_text().split("```")[1::2]:
            joined = block.replace("\\\n", " ")
            for line in joined.splitlines():
                for command in line.partition("#")[0].split("&&"):
                    if command.strip().startswith("edgecell "):
                        yield page.name, command.strip()


@pytest.mark.parametrize(("page", "line"), list(printed_commands()))
def test_printed_commands_exist(page: str, line: str) -> None:
    words = shlex.split(line)[1:]
    command: click.Command = cli
    with click.Context(cli) as context:
        while isinstance(command, click.Group):
            assert words, f"{page}: a subcommand is missing"
            found = command.get_command(context, words.pop(0))
            assert found is not None, f"{page}: {line}"
            command = found
    if command.name == "print":  # hands its options on
        return
    known = {o for p in command.params for o in (*p.opts, *p.secondary_opts)}
    used = {word.partition("=")[0] for word in words if word.startswith("--")}
    assert used <= known | {"--help"}


def test_the_readme_is_a_front_door() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 160


def test_the_architecture_names_what_is_there() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text().replace("\n   ", " ")
    named = re.findall(r"`([a-z]\w*/[\w/]+\.\w+)(?::\s+([\w.]+))?`", text)
    assert len(named) > 50
    for file, name in named:
        path = ROOT / file
        assert path.exists(), file
        for part in name.split(".") if name else ():
            defined = rf"^\s*(def {part}\(|class {part}\b|{part}\b.*=)"
            assert re.search(defined, path.read_text(), re.MULTILINE), (file, name)


def names_of(group: click.Group, prefix: str) -> Iterator[str]:
    """Each command as it is typed, subcommands too."""
    with click.Context(group) as context:
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None
            if isinstance(command, click.Group):
                yield from names_of(command, f"{prefix} {name}")
            else:
                yield f"{prefix} {name}"


@pytest.mark.parametrize(
    "name",
    [
        *names_of(cli, "edgecell"),
        *names_of(benchmarks, "python -m edgecell.benchmarks"),
    ],
)
def test_each_command_is_documented(name: str) -> None:
    text = " ".join("\n".join(page.read_text() for page in PAGES).split())
    assert re.search(rf"\b{re.escape(name)}\b", text)


def test_the_citation_names_this_version() -> None:
    text = (ROOT / "CITATION.cff").read_text()
    assert re.findall(r"^version: (.+)$", text, re.MULTILINE) == [__version__]


def test_the_reference_has_every_room() -> None:
    listed = re.search(
        r"addprefix edgecell\.,(.+?)\)", (ROOT / "Makefile").read_text(), re.DOTALL
    )
    assert listed is not None
    rooms = {path.parent.name for path in (ROOT / "edgecell").glob("*/__init__.py")}
    assert rooms <= set(listed[1].replace("\\", "").split())


def test_the_reference_leaves_out_what_imports_pytorch() -> None:
    left_out = set(
        re.findall(r"'!edgecell\.([\w.]+)'", (ROOT / "Makefile").read_text())
    )
    torch = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for room in ("benchmarks", "convert", "edge", "explain", "train")
        for path in (ROOT / room).rglob("*.py")
        if re.search(r"^(?:import|from) torch\b", path.read_text(), re.MULTILINE)
    }
    assert torch == left_out
