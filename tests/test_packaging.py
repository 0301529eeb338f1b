import configparser
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("train", "convert", "edge", "explain", "benchmarks")
TRAINING_ONLY = ("train", "convert", "benchmarks")


def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def modules_on_disk() -> list[str]:
    """Every module, by its installed name; packages without their ``__init__``."""
    own = [
        path.relative_to(ROOT)
        for path in (ROOT / "edgecell").rglob("*.py")
        if path.relative_to(ROOT).parts[1] not in FOLDERS
    ]
    rest = [
        Path("edgecell", path.relative_to(ROOT))
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.py")
    ]
    return sorted(".".join(p.with_suffix("").parts) for p in [*own, *rest])


def test_every_package_on_disk_is_packaged() -> None:
    ending = ".__init__"
    on_disk = {m.removesuffix(ending) for m in modules_on_disk() if m.endswith(ending)}
    listed = set(setup()["options"]["packages"].split())
    assert listed == on_disk
    for folder in FOLDERS:
        assert (ROOT / "edgecell" / folder).resolve() == ROOT / folder


def test_no_room_is_crowded() -> None:
    most = {"benchmarks": 24, "explain": 16, "train": 16, "convert": 16}
    rooms: dict[str, int] = {}
    for module in modules_on_disk():
        room, _, _ = module.rpartition(".")
        rooms[room] = rooms.get(room, 0) + 1
    crowded = {
        room: files
        for room, files in rooms.items()
        if files > most.get(".".join(room.split(".")[1:2]), 13)  # with __init__
    }
    assert not crowded


@pytest.mark.parametrize(
    ("contract", "package"), [("rooms", "edgecell"), ("edge", "edgecell.edge")]
)
def test_the_architecture_draws_the_contracts(contract: str, package: str) -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    drawings = [block.splitlines()[1:] for block in text.split("```")[1:4:2]]
    drawn = [
        {room.strip() for room in line[:16].split(",")}
        for line in drawings[("rooms", "edge").index(contract)]
    ]
    layers = setup()[f"importlinter:contract:{contract}"]["layers"].split("\n")
    held = [
        {room.strip().removeprefix(f"{package}.") for room in layer.split("|")}
        for layer in layers
        if layer
    ]
    assert drawn == held[: len(drawn)]
    folders = {m.rpartition(".")[0] for m in modules_on_disk() if "__init__" in m}
    rooms = {f.removeprefix(f"{package}.") for f in folders if f.startswith(package)}
    assert {r for r in rooms if "." not in r} - {package} == set().union(*drawn)


def test_all_data_files_are_packaged() -> None:
    data = setup()["options.package_data"]
    for package, patterns in data.items():
        folder = ROOT.joinpath(*package.split(".")[-1:])
        for pattern in patterns.replace(",", " ").split():
            assert list(folder.glob(pattern)), f"{package}: nothing matches {pattern}"


def test_the_device_side_imports_no_tensorflow() -> None:
    modules = [
        module
        for module in modules_on_disk()
        if module.split(".")[1] not in (*TRAINING_ONLY, "__main__")
    ]
    code = (
        "import importlib, sys\n"
        "for name in ('tensorflow', 'keras', 'sklearn', 'scipy', 'matplotlib'):\n"
        "    sys.modules[name] = None\n"
        "for name in sys.argv[1:]: importlib.import_module(name)\n"
    )
    assert len(modules) > 50
    subprocess.run([sys.executable, "-c", code, *modules], check=True, cwd=ROOT)
