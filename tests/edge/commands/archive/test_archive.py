"""Archives with real processes: killed, damaged, resumed, and on a cluster."""

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import edgecell
from edgecell.cli import cli
from edgecell.edge.commands.archive import run as archive
from edgecell.edge.commands.archive.items import Chunk, chunks_of, items_of
from edgecell.edge.commands.archive.run import classify_archive
from edgecell.edge.commands.archive.table import Table
from edgecell.edge.commands.archive.work import Part, Task
from edgecell.edge.sources import SAMPLES
from edgecell.errors import InputError, OutputError
from edgecell.model.modelfile import bundled_model

CELLS = sorted((SAMPLES / "cells").iterdir())
SMALL_CHUNKS = """
import sys
from edgecell.edge.commands.archive import run
run._CELLS_A_CHUNK = 2
if __name__ == "__main__":
    from edgecell.cli import cli
    cli(sys.argv[1:])
"""


@pytest.fixture
def few_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_CELLS_A_CHUNK", 5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The samples, in folders and a zip file, with two bad files."""
    root = tmp_path / "archive"
    for i, cell in enumerate(CELLS[:12]):
        place = root / f"slide-{i % 3}" / cell.name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(cell, place)
    (root / "slide-1" / "cut.jpg").write_bytes(CELLS[0].read_bytes()[:900])
    (root / "slide-2" / "text.png").write_text("no image")
    (root / "slide-2" / "notes.txt").write_text("left out")
    return root


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def expected(*roots: Path) -> dict[str, dict[str, Any]]:
    """What 'edgecell classify' says of each image by itself."""
    result = CliRunner().invoke(cli, ["classify", *map(str, roots), "--json", "-"])
    return {row["image"]: row for row in json.loads(result.stdout)["images"]}


def test_a_table_says_what_classify_says(
    folder: Path, tmp_path: Path, few_a_chunk: None
) -> None:
    bundle = tmp_path / "more.zip"
    with zipfile.ZipFile(bundle, "w") as made:
        for cell in CELLS[12:]:
            made.write(cell, f"day/{cell.name}")
    out = tmp_path / "table.csv"
    words = ["classify", str(folder), str(bundle), "--out", str(out)]
    result = CliRunner().invoke(cli, [*words, "--workers", "2", "--json", "-"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["images"], told["rows"], told["errors"]) == (26, 26, 2)
    rows = {row["image"]: row for row in read(out)}
    alone = expected(folder, bundle)
    assert rows.keys() == alone.keys()
    for name, row in alone.items():
        assert rows[name]["error"] == row.get("error", "")
        assert rows[name]["class"] == row.get("class", "")
        if "class" in row:
            assert float(rows[name]["probability"]) == row["probability"]
            assert rows[name]["runner_up"] == row["top"][1]["class"]
            assert rows[name]["microscope"] == row["microscope"]
            assert rows[name]["review"] == "; ".join(row["review"])
    assert not out.with_name("table.csv.parts").exists()


def test_parquet_has_types(folder: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    out = tmp_path / "table.parquet"
    done = classify_archive([str(folder)], bundled_model(), Task(), out, workers=1)
    table = parquet.read_table(out)
    assert table.num_rows == done.rows == 14
    assert str(table.schema.field("probability").type) == "double"
    assert table.column("class").null_count == done.errors == 2


def test_frames_give_a_row_for_each_cell(tmp_path: Path) -> None:
    out = tmp_path / "cells.csv"
    done = classify_archive(
        [str(SAMPLES / "frames")], bundled_model(), Task(frames=True), out, workers=1
    )
    rows = read(out)
    assert len({row["image"] for row in rows}) == done.images
    assert len(rows) > done.images
    for row in rows:
        if row["class"]:
            assert int(row["x0"]) < int(row["x1"])
            assert 0 < float(row["probability"]) <= 1


@pytest.mark.slow
def test_killed_and_run_again_no_row_is_missing_or_twice(
    folder: Path, tmp_path: Path
) -> None:
    script = tmp_path / "small_chunks.py"
    script.write_text(SMALL_CHUNKS)
    out = tmp_path / "table.csv"
    parts = out.with_name("table.csv.parts")
    words = ["classify", str(folder), "--out", str(out), "--workers", "1"]
    command = [sys.executable, str(script), *words, "--json", "-"]
    home = str(Path(edgecell.__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": home}
    rng = random.Random(3)
    kept = 0
    for _ in range(3):
        with subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            # Killed some time after it kept another part, or when it is through.
            while process.poll() is None and len(list(parts.glob("*.json"))) <= kept:
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 0.02))
            process.send_signal(signal.SIGKILL)
        kept = len(list(parts.glob("*.json")))
        if out.exists():
            break
        assert kept > 0
    if not out.exists():
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert told["resumed"] >= 2 * (kept - 1)
        assert told["images"] == 14
    names = Counter(row["image"] for row in read(out))
    assert set(names.values()) == {1}
    assert names.keys() == expected(folder).keys()


def test_only_what_changed_is_done_again(
    folder: Path, tmp_path: Path, few_a_chunk: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "table.csv"
    given = [str(folder)], bundled_model(), Task(), out

    def full(*_: Any) -> None:
        raise OutputError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Table, "finish", full)
        with pytest.raises(OutputError, match="full"):
            classify_archive(*given, workers=1)
    shutil.copy(CELLS[-1], folder / "slide-2" / CELLS[11].name)  # in the last chunk
    done = classify_archive(*given, workers=1)
    assert (done.images, done.resumed, done.rows) == (14, 10, 14)
    changed = next(row for row in read(out) if row["image"].endswith(CELLS[11].name))
    assert changed["class"] == CELLS[-1].stem.partition("_")[0]


class Crashing(archive.Workers):
    """Workers of which one is killed by a certain file, as a decoder's fault would."""

    waits = False

    def submit(self, chunk: Chunk) -> Any:
        if any("cut.jpg" in item.name for item in chunk.items):
            future = self._pool.submit(os._exit, 9)
            if self.waits:
                future.exception()
            return future
        return super().submit(chunk)


class CrashingEarly(Crashing):
    """The pool is known to be broken before the next chunk is begun."""

    waits = True


@pytest.mark.parametrize("workers", [Crashing, CrashingEarly])
def test_a_file_that_crashes_a_worker_is_a_row(
    folder: Path,
    tmp_path: Path,
    few_a_chunk: None,
    monkeypatch: pytest.MonkeyPatch,
    workers: type[Crashing],
) -> None:
    monkeypatch.setattr(archive, "Workers", workers)
    out = tmp_path / "table.csv"
    done = classify_archive([str(folder)], bundled_model(), Task(), out, workers=1)
    rows = read(out)
    assert len(rows) == done.rows == 14
    (crashed,) = (row for row in rows if "cut.jpg" in row["image"])
    assert crashed["error"] == "crashes the program that reads it"
    assert sum(not row["error"] for row in rows) == 12


@pytest.mark.slow
def test_a_cluster_gives_the_same_table(
    folder: Path, tmp_path: Path, few_a_chunk: None
) -> None:
    distributed = pytest.importorskip("distributed")
    here, there = tmp_path / "here.csv", tmp_path / "there.csv"
    classify_archive([str(folder)], bundled_model(), Task(), here, workers=1)
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, dashboard_address=None
    ) as cluster:
        classify_archive(
            [str(folder)],
            bundled_model(),
            Task(),
            there,
            scheduler=cluster.scheduler_address,
        )
    assert there.read_text() == here.read_text()


def test_chunks_are_the_same_on_every_run_and_differ_by_setting(folder: Path) -> None:
    first, again, other = (
        [chunk.key for chunk in chunks_of(items_of([str(folder)]), 4, settings)]
        for settings in ("a", "a", "b")
    )
    assert first == again
    assert len(set(first) | set(other)) == 8


def test_items_come_one_by_one(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    shutil.copy(CELLS[0], tmp_path / "a" / "1.jpg")
    items = items_of([str(tmp_path), str(tmp_path / "none")])
    assert next(items).name.endswith("1.jpg"), "before the next root is looked at"
    with pytest.raises(InputError, match="does not exist"):
        next(items)


@pytest.mark.parametrize(
    ("words", "message", "status"),
    [
        (["--out", "t.txt"], "has to end in .parquet or .csv", 1),
        (["--out", "t.csv", "--csv", "u.csv"], "--csv is not for --out", 2),
        (["--frames"], "--frames is for --out", 2),
        (["--workers", "2"], "--workers is for --out", 2),
        (["--out", "t.csv", "--scheduler", "tcp://127.0.0.1:1"], "no Dask", 1),
    ],
)
def test_what_does_not_go_together(
    words: list[str],
    message: str,
    status: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, ["classify", str(CELLS[0]), *words])
    assert result.exit_code == status, result.output
    assert message in result.output


def test_a_finished_table_is_not_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "table.csv"
    out.write_text("results")
    with pytest.raises(OutputError, match="exists"):
        classify_archive([str(CELLS[0])], bundled_model(), Task(), out)
    assert out.read_text() == "results"


def test_a_disk_that_refuses_the_table_keeps_the_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = Table(tmp_path / "table.csv")
    table.add("one", Part([{"image": "a", "error": "bad"}], {}))

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OutputError, match="No space left"):
            table.finish(["one"], ())
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv.parts"]
    assert table.finish(["one"], ())[:2] == (1, 1)
