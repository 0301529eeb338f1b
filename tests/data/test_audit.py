import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from edgecell.data.audit import Audit, audit, is_grey, select
from edgecell.data.command import command
from edgecell.data.dataset import CellFile, read, scan
from edgecell.image.preprocess import Rgb
from tests.factories import draw_cell


def picture(seed: int, code: str = "EO", side: int = 96) -> np.ndarray:
    return draw_cell(np.random.default_rng(seed), code, side)


def save(root: Path, name: str, image: np.ndarray, quality: int = 92) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(root / name), image, [cv2.IMWRITE_JPEG_QUALITY, quality])


def audited(root: Path) -> Audit:
    reading = read([root])
    return audit(reading.files, reading.unlabelled)


def names(files: Sequence[CellFile]) -> set[str]:
    return {f.name.rsplit("/", 1)[1] for f in files}


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(command, ["audit", *map(str, args)])


@pytest.fixture
def faulty(tmp_path: Path) -> Path:
    """Ten images of a set with one or two faults of each kind."""
    root = tmp_path / "faulty"
    save(root, "EO/a.png", picture(1))
    save(root, "EO/a copy.png", picture(1))
    save(root, "EO/b.png", picture(2))
    save(root, "EO/b turned.jpg", np.rot90(picture(2)))
    save(root, "EO/c.png", picture(3))
    save(root, "BNE/c mirrored.png", picture(3)[:, ::-1])
    save(root, "LY/tiny.png", picture(4, "LY", 60))
    grey = cv2.cvtColor(picture(5, "LY"), cv2.COLOR_BGR2GRAY)
    save(root, "LY/grey.png", grey)
    (root / "LY" / "broken.jpg").write_bytes(b"no image")
    (root / "LY" / "empty.jpg").write_bytes(b"")
    save(root, "somewhere/cell.png", picture(6))
    return root


def test_distinct_cells_are_clean(drawn_cells: Path) -> None:
    found = audited(drawn_cells)
    assert found.clean
    assert set(found.counts) == {"drawn"}
    assert set(found.counts["drawn"].values()) == {20}
    assert len(found.counts["drawn"]) == 12
    files = read([drawn_cells]).files
    assert select(files, found).kept == files


def test_each_fault_is_found_and_no_other(faulty: Path) -> None:
    found = audited(faulty)
    assert [names(g.files) for g in found.identical] == [{"a.png", "a copy.png"}]
    assert {frozenset(names(g.files)) for g in found.near} == {
        frozenset({"b.png", "b turned.jpg"}),
        frozenset({"c.png", "c mirrored.png"}),
    }
    (conflict,) = found.conflicts
    assert names(conflict.files) == {"c.png", "c mirrored.png"}
    assert names([f.file for f in found.unreadable]) == {"broken.jpg", "empty.jpg"}
    assert [(f.file.name[-8:], f.detail) for f in found.tiny] == [
        ("tiny.png", "60x60 pixels")
    ]
    assert names([f.file for f in found.grey]) == {"grey.png"}
    assert [n.rsplit("/", 1)[1] for n in found.unlabelled] == ["cell.png"]
    assert found.counts == {"faulty": {"BNE": 1, "EO": 5, "LY": 4}}


def test_selection_keeps_one_of_each_and_gives_reasons(faulty: Path) -> None:
    files = read([faulty]).files
    chosen = select(files, audit(files))
    kept = names(chosen.kept)
    assert len(kept & {"a.png", "a copy.png"}) == 1
    assert len(kept & {"b.png", "b turned.jpg"}) == 1
    assert kept >= {"tiny.png", "grey.png"}
    assert len(kept) == 4
    reasons = {f.file.name.rsplit("/", 1)[1]: f.reason for f in chosen.left_out}
    assert "c.png is EO" in reasons["c mirrored.png"]
    assert "c mirrored.png is BNE" in reasons["c.png"]
    assert reasons["empty.jpg"] == "empty"
    texts = [
        reasons[n] for n in {"a.png", "a copy.png", "b.png", "b turned.jpg"} - kept
    ]
    assert sorted(t.split(" /")[0] for t in texts) == ["looks the same as", "same as"]
    assert len(chosen.kept) + len(chosen.left_out) == len(files)


def test_selection_does_not_depend_on_the_order(faulty: Path) -> None:
    files = read([faulty]).files
    kept = set(select(files, audit(files)).kept)
    assert set(select(files[::-1], audit(files[::-1])).kept) == kept


def test_a_training_image_wins_over_its_copy_in_the_test_split(tmp_path: Path) -> None:
    for i in range(12):
        save(tmp_path, f"EO/{i}.jpg", picture(1), 80 + i)
    files = read([tmp_path]).files
    (group,) = audit(files).near
    assert len(group.files) == 12
    order = [("train", "val", "test").index(f.split) for f in group.files]
    assert order == sorted(order)
    assert order[0] < order[-1]
    assert select(files, audit(files)).kept == (group.files[0],)


def test_copies_in_two_sources_and_a_zip_file(
    drawn_cells: Path, tmp_path: Path
) -> None:
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.write(drawn_cells / "EO" / "0.png", "EO/x.png")
        archive.writestr("LY/broken.png", b"")
    files = read([drawn_cells / "EO", tmp_path / "other.zip"]).files
    found = audit(files)
    (group,) = found.identical
    assert {f.source for f in group.files} == {"drawn", "other"}
    assert not group.conflict
    assert not found.near
    assert found.unreadable[0].file.name.endswith("other.zip:LY/broken.png")


def test_a_group_of_both_kinds_is_one_conflict(tmp_path: Path) -> None:
    save(tmp_path, "EO/a.png", picture(1))
    save(tmp_path, "BNE/a.png", picture(1))
    save(tmp_path, "BNE/b.png", np.flipud(picture(1)))
    found = audited(tmp_path)
    assert len(found.identical[0].files) == 2
    assert len(found.near[0].files) == 3
    assert found.conflicts == found.near
    assert select(read([tmp_path]).files, found).kept == ()


def test_what_is_grey() -> None:
    assert is_grey(Rgb(np.full((9, 9, 3), 100, np.uint8)))
    cell = Rgb(np.asarray(picture(1), np.uint8))
    assert not is_grey(cell)
    faded = np.asarray(0.05 * cell + 0.95 * cell.mean(2, keepdims=True), np.uint8)
    assert is_grey(Rgb(faded))


def test_strict_decides_the_exit_status(faulty: Path, drawn_cells: Path) -> None:
    assert run(faulty).exit_code == 0
    assert run(faulty, "--strict").exit_code == 1
    assert run(drawn_cells / "EO", "--strict").exit_code == 0


def test_the_report_counts_first_and_names_the_files(faulty: Path) -> None:
    out = run(faulty).output
    lines = out.splitlines()
    assert lines[0].split() == ["class", "faulty", "all"]
    assert lines[3].split() == ["EO", "eosinophil", "5", "5"]
    assert lines[13].split() == ["images", "10", "10"]
    assert "one image, several labels: 1" in lines
    for name in ("c mirrored.png (BNE)", "tiny.png: 60x60 pixels", "empty.jpg: empty"):
        assert name in out


def test_a_long_report_is_cut_and_says_so(tmp_path: Path) -> None:
    for i in range(13):
        save(tmp_path, f"EO/{i:02}.png", picture(1))
        (tmp_path / "EO" / f"{i:02}.bmp").write_bytes(bytes(i))
    out = run(tmp_path, "--json", tmp_path / "all.json").output
    assert "unreadable: 13" in out
    assert "... and 3 more; --json has all" in out
    assert " = 8 more" in out
    data = json.loads((tmp_path / "all.json").read_text())
    assert len(data["unreadable"]) == 13
    assert len(data["identical"][0]) == 13


def test_json_alone(faulty: Path) -> None:
    data = json.loads(run(faulty, "--json", "-").stdout)
    assert data["images"] == 10
    assert not data["clean"]
    (conflict,) = data["conflicts"]
    assert {f["class"] for f in conflict} == {"EO", "BNE"}
    assert {f["source"] for f in conflict} == {"faulty"}


def test_scan_still_reads_what_it_read(faulty: Path) -> None:
    # Near-duplicates and broken images are the audit's business.
    assert len(scan([faulty])) == 9
