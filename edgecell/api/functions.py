"""The functions of the API that need no open model."""

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edgecell.errors import InputError
from edgecell.optional import require

if TYPE_CHECKING:
    from edgecell.convert.convert import Conversion
    from edgecell.edge.record.sessions import RecordedSession
    from edgecell.edge.sources.base import FrameSource

AnyPath = str | os.PathLike[str]


def open_source(address: AnyPath | int, *, watch: bool = False) -> "FrameSource":
    """Names a source of frames; enter it to open it.

        with edgecell.open_source("slide.mp4") as frames:
            for frame in frames:
                ...

    Args:
        address: an image, a video, a folder or glob of images, 'demo', or a camera: its
            number, its device, csi://0, rtsp://..., http://... or gst://PIPELINE.
        watch: don't end with the images that are there, but wait for more.

    Returns:
        Yields frames; None while it waits for one.

    Raises:
        SourceError: nothing was found at that address.
        InputError: it is of a kind that isn't known.
    """
    from edgecell.edge.sources.address import open_source

    return open_source(str(address), watch)


def open_session(folder: AnyPath) -> "AbstractContextManager[RecordedSession]":
    """Opens what a run has recorded, for reading; the run may still be going on.

        with edgecell.open_session("edgecell-out/slide") as session:
            print(session.differential().to_dict())

    Args:
        folder: a folder that a run wrote.

    Raises:
        InputError: it has no record that can be read.
    """
    from edgecell.edge.record.sessions import open_session

    return open_session(Path(folder))


def convert_model(
    model: AnyPath,
    data: AnyPath | Sequence[AnyPath],
    out: AnyPath,
    *,
    scheme: Literal["int8", "int16x8", "dynamic", "float16", "float32"] = "int8",
    max_drop: float = 0.5,
    manifest: AnyPath | None = None,
) -> "Conversion":
    """Converts a trained network to a model for devices, and proves and measures it.

    `edgecell convert` has more settings.

    Args:
        model: a ``.keras`` file that `edgecell train` wrote.
        data: what it was trained on: folders or zip files in which the directory above
            an image names its class.
        out: the ``.tflite`` file to write; left alone if too much accuracy was lost.
        scheme: number format.
        max_drop: accuracy that may be lost, percentage points.
        manifest: ``split.csv`` of the training run, if the split is not by content.

    Returns:
        The figures; ``written`` says whether the file was.

    Raises:
        InputError: the data lack a class or a split.
        ModelError: not a network of ours.
        OutputError: ``out`` can't be written.
        MissingPackageError: TensorFlow is not installed.
    """
    from edgecell.data.manifest import scan_split
    from edgecell.files import check_kind, check_writable
    from edgecell.model.kerasfile import read_keras_record

    if Path(model).suffix != ".keras":
        raise InputError(f"{model} is not a .keras file; 'edgecell train' writes one")
    read_keras_record(Path(model))
    check_kind(Path(out), "TFLite")
    check_writable(Path(out))
    require("tensorflow", "train")
    from edgecell.convert.convert import Request, convert
    from edgecell.convert.export import QuantScheme

    roots = [data] if isinstance(data, str | os.PathLike) else list(data)
    files = scan_split(
        [Path(root) for root in roots], None if manifest is None else Path(manifest)
    )
    try:
        io: Literal["int8", "float32"] = "int8" if scheme == "int8" else "float32"
        request = Request(QuantScheme(scheme, io), max_drop=max_drop)
    except ValueError as e:
        raise InputError(str(e)) from e
    return convert(Path(model), request, files, Path(out))[0]
