import io
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from edgecell.classes import CODES
from edgecell.cli import cli
from edgecell.data.dataset import CellFile, decode, scan
from edgecell.data.pack import Pack, read_packs, write_packs
from edgecell.data.packing import pack_cells
from edgecell.data.scale import crops_at_scale, field_in_red_cells, training_view
from edgecell.errors import InputError
from edgecell.image.preprocess import Preprocessing, cell_image
from edgecell.morphology.table import Attribute, AttributeTable

PREP = Preprocessing(48, 0.6, 3.0, 95.0, 240.0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


@pytest.fixture(scope="module")
def files(drawn_cells: Path) -> list[CellFile]:
    return scan([drawn_cells])[::5]


@pytest.fixture(scope="module")
def pack(files: list[CellFile]) -> Pack:
    return pack_cells(files, PREP, 1.25, {})


def test_a_pack_holds_what_training_cuts_out(files: list[CellFile], pack: Pack) -> None:
    assert pack.side == 60
    assert pack.crops == {"drawn": 0.6}
    assert pack.hashes == tuple(f.sha256 for f in files)
    assert pack.splits == tuple(f.split for f in files)
    assert [CODES[row.argmax()] for row in pack.sets] == [f.code for f in files]
    for i, image in zip((0, 7), pack.decoded([0, 7]), strict=True):
        own = cell_image(decode(files[i].data, files[i].name), PREP, 1.25)
        assert np.abs(image.astype(int) - own).mean() < 4  # WebP
    inner = pack.crops_of([7])
    assert inner.shape == (1, 48, 48, 3)
    assert np.array_equal(inner[0], pack.decoded([7])[0, 6:54, 6:54])


def test_written_and_read_it_is_the_same(pack: Pack, tmp_path: Path) -> None:
    paths, size = write_packs(pack, tmp_path / "cells.npz")
    assert paths == [tmp_path / "cells.npz"]
    assert size == paths[0].stat().st_size
    again = read_packs(paths)
    assert np.array_equal(again.sets, pack.sets)
    for name in ("images", "splits", "sources", "hashes", "prep", "crops", "codes"):
        assert getattr(again, name) == getattr(pack, name)


def test_no_file_is_larger_than_allowed(pack: Pack, tmp_path: Path) -> None:
    paths, size = write_packs(pack, tmp_path / "cells.npz", 30_000)
    assert [p.name for p in paths] == [f"cells-{i + 1}.npz" for i in range(len(paths))]
    assert len(paths) > 1
    assert all(p.stat().st_size <= 30_000 for p in paths)
    assert size == sum(p.stat().st_size for p in paths)
    again = read_packs([*paths, paths[0]])
    assert sorted(again.hashes) == sorted(pack.hashes)
    one = again.hashes.index(pack.hashes[3])
    assert again.images[one] == pack.images[3]


def test_packs_of_different_views_are_not_mixed(
    files: list[CellFile], pack: Pack, tmp_path: Path
) -> None:
    write_packs(pack, tmp_path / "a.npz")
    other = pack_cells(files[:3], PREP, 1.5, {})
    write_packs(other, tmp_path / "b.npz")
    with pytest.raises(InputError, match="packed with another view"):
        read_packs([tmp_path / "a.npz", tmp_path / "b.npz"])
    closer = pack_cells(files[:3], PREP, 1.25, {"drawn": 0.5})
    write_packs(closer, tmp_path / "c.npz")
    with pytest.raises(InputError, match=r"drawn cut at 0\.5 of an image"):
        read_packs([tmp_path / "a.npz", tmp_path / "c.npz"])


def test_what_is_no_pack_is_told(pack: Pack, tmp_path: Path) -> None:
    whole = tmp_path / "cells.npz"
    write_packs(pack, whole)
    content = whole.read_bytes()
    other = io.BytesIO()
    np.savez(other, x=np.zeros(3))
    for name, data in {
        "cut.npz": content[: len(content) // 2],
        "empty.npz": b"",
        "text.npz": b"no archive at all",
        "other.npz": other.getvalue(),
    }.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match=f"{name} is not a file of 'edgecell"):
            read_packs([tmp_path / name])
    with pytest.raises(InputError, match=r"missing\.npz cannot be read"):
        read_packs([tmp_path / "missing.npz"])


def test_sources_are_brought_to_one_scale(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Red cells have a diameter of 20 pixels, and of 30 under the other microscope.
    monkeypatch.setattr(
        "edgecell.data.scale.red_cell_diameter",
        lambda image: 20.0 if image[0, 0, 0] % 2 else 30.0,
    )

    def drawn(source: str, side: int, mark: int) -> CellFile:
        image = np.full((side, side + 9, 3), 200 + mark, np.uint8)
        data = cv2.imencode(".png", image)[1].tobytes()
        return CellFile(f"{source}.png", "BNE|SNE", source, source * 8, data)

    near = [drawn("near", 96, 1), drawn("far", 96, 0), drawn("other", 48, 1)]
    prep = training_view(near[:1], crop_fraction=0.6)
    assert prep.crop_red_cells == pytest.approx(0.6 * 96 / 20)
    crops = crops_at_scale(near, prep, {"other": 0.9})
    assert crops == pytest.approx({"other": 0.9, "near": 0.6, "far": 0.6 * 30 / 20})
    pack = pack_cells(near, prep, 1.2, crops)
    assert [row.nonzero()[0].tolist() for row in pack.sets] == [[1, 11]] * 3


def test_without_red_cells_the_scale_is_unknown() -> None:
    blank = cv2.imencode(".png", np.full((96, 96, 3), 220, np.uint8))[1].tobytes()
    with pytest.raises(InputError, match="no red cells were found"):
        field_in_red_cells([CellFile("a.png", "EO", "x", "00", blank)])


def test_the_command(drawn_cells: Path, tmp_path: Path) -> None:
    def call(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(cli, ["data", "pack", *arguments])
        return result.exit_code, result.output

    out = tmp_path / "packs" / "cells.npz"
    status, said = call(str(drawn_cells), "--out", str(out), "--json", "-")
    assert status == 0
    report = json.loads(said[said.index("{") :])
    assert report["files"] == [str(out)]
    counts = report["cells"]["drawn"]
    assert counts["test"] == 0
    pack = read_packs([out])
    assert (counts["train"], counts["val"]) == tuple(
        pack.splits.count(s) for s in ("train", "val")
    )
    assert pack.side == 144

    data = [str(drawn_cells), "--out", str(out)]
    for wrong, says in (
        (["--crop", "drawn"], "'drawn' is not SOURCE=FRACTION"),
        (["--crop", "drawn=1.5"], "1.5 is not in the range 0<x<=1"),
        (["--crop", "raabin=0.7"], "there is no cell of raabin in the data"),
        (["--scale-as", "pbc"], "there is no cell of pbc in the data; sources are dr"),
    ):
        status, said = call(*data, *wrong)
        assert status in (1, 2)
        assert says in said
    status, said = call(str(drawn_cells), "--out", str(tmp_path / "cells.zip"))
    assert (status, "must end in .npz" in said) == (2, True)


def test_attributes_travel_with_their_cells(
    files: list[CellFile], tmp_path: Path
) -> None:
    scheme = (Attribute("nucleus", ("band", "round")), Attribute("odd", ("no", "yes")))
    own = [replace(f, name=f"{i}.png") for i, f in enumerate(files)]
    table = AttributeTable(scheme, {"0.png": (1, 0), "2.png": (0, -1)})
    packed = pack_cells(own, PREP, 1.25, {}, table)
    paths, _ = write_packs(packed, tmp_path / "cells.npz", 30_000)
    assert len(paths) > 1
    again = read_packs(paths)
    assert again.scheme == scheme
    of = dict(zip(again.hashes, again.attributes.tolist(), strict=True))
    assert [of[f.sha256] for f in own[:3]] == [[1, 0], [-1, -1], [0, -1]]
    write_packs(pack_cells(own[:3], PREP, 1.25, {}), tmp_path / "none.npz")
    with pytest.raises(InputError, match="set of classes or attributes"):
        read_packs([paths[0], tmp_path / "none.npz"])
