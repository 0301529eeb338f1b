"""Packed cells: a data set as a few files that a training machine can be sent.

A pack is an uncompressed ``.npz`` archive of arrays, without pickled objects. Each
cell is cut out as training wants it, with a margin, and stored as WebP. A data set that
is too large for one file is dealt out to several, which are complete packs themselves.

Reading and writing need numpy and OpenCV alone, which training machines have.
"""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import cv2
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from edgecell.errors import InputError
from edgecell.files import write_atomically
from edgecell.image.preprocess import Preprocessing, Rgb
from edgecell.morphology.table import Attribute

FORMAT = 2
FILE_BYTES = 60 * 10**6
"""Largest size of one packed file."""

QUALITY = 90
_ARRAYS = (
    *("pixels", "ends", "sets", "attributes", "splits", "sources", "hashes"),
    "meta",
)


@dataclass(frozen=True)
class Pack:
    """Packed cells.

    Attributes:
        images: N encoded images, RGB when decoded, each of ``side`` pixels a side.
        sets: bool (N, C), the classes that each cell may belong to.
        attributes: int8 (N, A), indices of attribute values, -1 where unknown.
        splits: N names of splits.
        sources: N names of sources.
        hashes: N hashes of the original files' bytes, hexadecimal.
        prep: how the cells were cut out; mean and deviation are not set.
        side: side of the images, pixels: the crop and its margin.
        crops: side of the crop over the shorter side of an original, by source.
        codes: C class codes.
        scheme: A attributes with their values; may be empty.
    """

    images: tuple[bytes, ...]
    sets: npt.NDArray[np.bool_]
    attributes: npt.NDArray[np.int8]
    splits: tuple[str, ...]
    sources: tuple[str, ...]
    hashes: tuple[str, ...]
    prep: Preprocessing
    side: int
    crops: Mapping[str, float]
    codes: tuple[str, ...]
    scheme: tuple[Attribute, ...]

    def __len__(self) -> int:
        return len(self.images)

    def content_hash(self, chosen: Sequence[int]) -> str:
        """A hash over the original contents and labels of some cells, in any order."""
        labels = (self.sets[i].nonzero()[0] for i in chosen)
        lines = sorted(
            f"{self.hashes[i]} {'|'.join(self.codes[c] for c in label)}"
            for i, label in zip(chosen, labels, strict=True)
        )
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def decoded(self, chosen: Sequence[int]) -> npt.NDArray[np.uint8]:
        """Decodes images on all cores.

        Args:
            chosen: indices of N cells.

        Returns:
            uint8 RGB (N, side, side, 3).

        Raises:
            InputError: an image is damaged.
        """
        images = np.empty((len(chosen), self.side, self.side, 3), np.uint8)

        def one(place: int, cell: int) -> None:
            data = np.frombuffer(self.images[cell], np.uint8)
            bgr = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
            if bgr is None or bgr.shape != images.shape[1:]:
                raise InputError(
                    f"packed cell {cell} is damaged; pack the data again with "
                    "'edgecell data pack'"
                )
            images[place] = bgr[:, :, ::-1]

        with ThreadPoolExecutor() as pool:
            done = pool.map(one, range(len(chosen)), chosen)
            for _ in tqdm(done, "decoding", len(chosen), disable=None, leave=False):
                pass
        return images

    def crops_of(self, chosen: Sequence[int]) -> npt.NDArray[np.uint8]:
        """What the network sees of some cells, without the margin.

        Args:
            chosen: indices of N cells.

        Returns:
            uint8 RGB (N, S, S, 3), S the input size.
        """
        edge = (self.side - self.prep.input_size) // 2
        inner = slice(edge, edge + self.prep.input_size)
        return self.decoded(chosen)[:, inner, inner]


def encoded(image: Rgb) -> bytes:
    """An image, uint8 RGB (H, W, 3), as a pack holds it."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    ok, data = cv2.imencode(".webp", bgr, [cv2.IMWRITE_WEBP_QUALITY, QUALITY])
    assert ok
    return data.tobytes()


def write_packs(
    pack: Pack, out: Path, file_bytes: int = FILE_BYTES
) -> tuple[list[Path], int]:
    """Writes a pack as one or more files, each whole or not at all.

    Args:
        pack: what to write.
        out: the file, ``NAME.npz``; several are ``NAME-1.npz``, ``NAME-2.npz``, ...
        file_bytes: largest size of a file.

    Returns:
        The files' paths and their size in bytes together.

    Raises:
        OutputError: a file can't be written.
    """
    parts = 1
    # Cells are dealt out in turn, so that each file has its share of every source.
    while max(_bytes(pack, i, parts) for i in range(parts)) > file_bytes:
        parts += 1
        if parts > len(pack):
            raise InputError(f"one cell alone is larger than {file_bytes} bytes")
    total = 0
    paths = []
    for i in range(parts):
        content = _serialised(pack, i, parts)
        path = out if parts == 1 else out.with_stem(f"{out.stem}-{i + 1}")
        write_atomically(path, content)
        paths.append(path)
        total += len(content)
    return paths, total


def _bytes(pack: Pack, part: int, parts: int) -> int:
    """Upper bound of the size of one of several files."""
    names = 64 + 4 * (max(map(len, pack.sources)) + 5) + 8
    names += len(pack.codes) + len(pack.scheme)
    images = pack.images[part::parts]
    return sum(map(len, images)) + names * len(images) + 10_000


def _serialised(pack: Pack, part: int, parts: int) -> bytes:
    chosen = slice(part, None, parts)
    images = pack.images[chosen]
    meta = {
        "format": FORMAT,
        "prep": asdict(pack.prep),
        "side": pack.side,
        "crops": dict(pack.crops),
        "codes": list(pack.codes),
        "scheme": [asdict(a) for a in pack.scheme],
    }
    buffer = io.BytesIO()
    np.savez(
        buffer,
        pixels=np.frombuffer(b"".join(images), np.uint8),
        ends=np.cumsum([len(x) for x in images], dtype=np.int64),
        sets=pack.sets[chosen],
        attributes=pack.attributes[chosen],
        splits=np.array(pack.splits[chosen]),
        sources=np.array(pack.sources[chosen]),
        hashes=np.array(pack.hashes[chosen], "S64"),
        meta=np.frombuffer(json.dumps(meta).encode(), np.uint8),
    )
    return buffer.getvalue()


def read_packs(paths: Sequence[Path]) -> Pack:
    """Reads packed files as one pack; a cell that is in several counts once.

    Args:
        paths: the files, at least one.

    Raises:
        InputError: a file is missing, damaged, or no pack of this version; or files
            were packed in different ways.
    """
    packs = [_read(path) for path in paths]
    first = packs[0]
    for path, pack in zip(paths, packs, strict=True):
        if _manner(pack) != _manner(first):
            raise InputError(
                f"{path} was packed with another view, set of classes or attributes "
                f"than {paths[0]}; pack them again together"
            )
    keep: dict[str, tuple[int, int]] = {}
    crops: dict[str, float] = {}
    for p, pack in enumerate(packs):
        for i, sha256 in enumerate(pack.hashes):
            keep.setdefault(sha256, (p, i))
        for source, crop in pack.crops.items():
            if crops.setdefault(source, crop) != crop:
                raise InputError(
                    f"{paths[p]} has {source} cut at {crop:g} of an image, another "
                    f"file at {crops[source]:g}; pack them again together"
                )
    places = list(keep.values())
    return replace(
        first,
        images=tuple(packs[p].images[i] for p, i in places),
        sets=np.stack([packs[p].sets[i] for p, i in places]),
        attributes=np.stack([packs[p].attributes[i] for p, i in places]),
        splits=tuple(packs[p].splits[i] for p, i in places),
        sources=tuple(packs[p].sources[i] for p, i in places),
        hashes=tuple(packs[p].hashes[i] for p, i in places),
        crops=crops,
    )


def _manner(pack: Pack) -> tuple[Any, ...]:
    return pack.side, pack.prep, pack.codes, pack.scheme


def _read(path: Path) -> Pack:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in _ARRAYS}
        meta = json.loads(arrays["meta"].tobytes())
        if meta["format"] != FORMAT:
            raise InputError(
                f"{path} is a pack of another version; pack the data again"
            )
        vectors = {k: tuple(meta["prep"][k]) for k in ("mean", "std")}
        pixels, ends = arrays["pixels"].tobytes(), arrays["ends"].tolist()
        starts = [0, *ends[:-1]]
        pack = Pack(
            images=tuple(pixels[a:b] for a, b in zip(starts, ends, strict=True)),
            sets=arrays["sets"],
            attributes=arrays["attributes"],
            splits=tuple(arrays["splits"].tolist()),
            sources=tuple(arrays["sources"].tolist()),
            hashes=tuple(h.decode() for h in arrays["hashes"].tolist()),
            prep=Preprocessing(**(meta["prep"] | vectors)),
            side=meta["side"],
            crops=meta["crops"],
            codes=tuple(meta["codes"]),
            scheme=tuple(
                Attribute(a["name"], tuple(a["values"])) for a in meta["scheme"]
            ),
        )
        lengths = {len(pack.sets), len(pack.splits), len(pack.sources)}
        shape = (len(pack), len(pack.scheme))
        if (
            lengths != {len(pack)}
            or pack.attributes.shape != shape
            or ends[-1] != len(pixels)
        ):
            raise ValueError("its arrays do not belong together")
    except OSError as e:
        raise InputError(f"{path} cannot be read ({e.strerror or e})") from e
    except (BadZipFile, EOFError, KeyError, IndexError, ValueError, TypeError) as e:
        raise InputError(f"{path} is not a file of 'edgecell data pack' ({e})") from e
    return pack
