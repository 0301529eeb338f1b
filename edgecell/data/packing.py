"""Labelled images on disk to packed cells; see `edgecell.data.pack`."""

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

from tqdm import tqdm

from edgecell.classes import CODES
from edgecell.data.dataset import CellFile, Split, decode, label_sets
from edgecell.data.pack import Pack, encoded
from edgecell.image.preprocess import Preprocessing, cell_image
from edgecell.morphology.table import AttributeTable

SPLITS: tuple[Split, ...] = get_args(Split)


def pack_cells(
    files: Sequence[CellFile],
    prep: Preprocessing,
    margin: float,
    crops: Mapping[str, float],
    table: AttributeTable | None = None,
) -> Pack:
    """Cuts cells out and encodes them, on all cores.

    Args:
        files: N labelled images.
        prep: how a training image becomes an input.
        margin: side of the packed image over the crop's, at least 1.
        crops: for sources of another scale, the side of the crop over an image's
            shorter side; others use ``prep.crop_fraction``.
        table: attributes of some of the cells; None for none.

    Raises:
        InputError: an image is unreadable or its label unknown.
    """
    sources = tuple(f.source for f in files)
    table = table or AttributeTable((), {})
    of_source = {s: crops.get(s, prep.crop_fraction) for s in sorted(set(sources))}

    def cut(file: CellFile) -> bytes:
        own = replace(prep, crop_fraction=of_source[file.source])
        return encoded(cell_image(decode(file.data, file.name), own, margin))

    with ThreadPoolExecutor() as pool:
        done = pool.map(cut, files)
        progress = tqdm(done, "packing", len(files), disable=None, leave=False)
        images = tuple(progress)
    return Pack(
        images=images,
        sets=label_sets(files),
        attributes=table.of(files),
        splits=tuple(f.split for f in files),
        sources=sources,
        hashes=tuple(f.sha256 for f in files),
        prep=prep,
        side=round(prep.input_size * margin),
        crops=of_source,
        codes=CODES,
        scheme=table.attributes,
    )


@dataclass(frozen=True)
class PackSummary:
    """What was packed.

    Attributes:
        files: the files written.
        bytes: their size together.
        cells: number of cells by source and split.
        labels: number of cells by label.
        crops: side of the crop over an image's shorter side, by source.
        with_attributes: number of cells that have attributes.
    """

    files: list[str]
    bytes: int
    cells: dict[str, dict[str, int]]
    labels: dict[str, int]
    crops: dict[str, float]
    with_attributes: int

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready copy."""
        return asdict(self)


def summary(
    pack: Pack, files: Sequence[CellFile], paths: Sequence[Path], size: int
) -> PackSummary:
    """Counts what was packed.

    Args:
        pack: the cells.
        files: what they were made from.
        paths: the files written.
        size: their size in bytes together.
    """
    cells: dict[str, dict[str, int]] = {
        source: {
            str(s): sum(f.source == source and f.split == s for f in files)
            for s in SPLITS
        }
        for source in sorted(set(pack.sources))
    }
    labels = dict(sorted(Counter(f.code for f in files).items()))
    known = int((pack.attributes >= 0).any(1).sum())
    return PackSummary(
        [str(p) for p in paths], size, cells, labels, dict(pack.crops), known
    )
