import configparser
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDERS = ("train", "convert", "edge", "explain", "benchmarks")


def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def test_every_package_on_disk_is_packaged() -> None:
    on_disk = {"edgecell"} | {
        ".".join(("edgecell", *path.parent.relative_to(ROOT).parts))
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("__init__.py")
    }
    listed = set(setup()["options"]["packages"].split())
    assert listed == on_disk
    for folder in FOLDERS:
        assert (ROOT / "edgecell" / folder).resolve() == ROOT / folder


def test_all_data_files_are_packaged() -> None:
    data = setup()["options.package_data"]
    for package, patterns in data.items():
        folder = ROOT.joinpath(*package.split(".")[-1:])
        for pattern in patterns.replace(",", " ").split():
            assert list(folder.glob(pattern)), f"{package}: nothing matches {pattern}"


def test_the_device_side_imports_no_tensorflow() -> None:
    modules = [
        f"edgecell.{folder}.{path.stem}"
        for folder in ("edge", "explain")
        for path in sorted((ROOT / folder).glob("*.py"))
        if path.stem not in ("__init__", "fit_localiser")
    ]
    code = (
        "import importlib, sys\n"
        "for name in ('tensorflow', 'keras', 'sklearn', 'scipy', 'matplotlib'):\n"
        "    sys.modules[name] = None\n"
        "for name in sys.argv[1:]: importlib.import_module(name)\n"
    )
    assert len(modules) > 5
    subprocess.run([sys.executable, "-c", code, *modules], check=True, cwd=ROOT)
