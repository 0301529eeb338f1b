"""Frame sources by address: an image, a folder, a video, a camera, the samples."""

import re
from importlib.resources import files
from pathlib import Path

from edgecell.dataset import IMAGE_SUFFIXES
from edgecell.edge.sources_base import Frame, FrameSource
from edgecell.edge.sources_camera import Camera
from edgecell.edge.sources_still import Chain, StillFrames
from edgecell.edge.sources_video import VideoFile
from edgecell.errors import InputError, SourceError

__all__ = ["DEMO", "SAMPLES", "Frame", "FrameSource", "natural_key", "open_source"]

DEMO = "demo"
SAMPLES = Path(str(files("edgecell.edge"))) / "samples"
VIDEO_SUFFIXES = (".avi", ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".mpg", ".mpeg")


def natural_key(name: str) -> list[tuple[int, str]]:
    """Sorts 'frame2' before 'frame10'."""
    return [
        (int(part), "") if part.isdigit() else (-1, part)
        for part in re.split(r"([0-9]+)", name.lower())
        if part
    ]


def open_source(address: str) -> FrameSource:
    """The source that an address names; enter it to open it.

    Args:
        address: an image or video file, a folder of images, a camera's number,
            or 'demo'.

    Raises:
        SourceError: there is nothing at that address, or nothing to read.
        InputError: a file of a kind that isn't known.
    """
    if address == DEMO:
        stills = StillFrames(DEMO, _images_in(SAMPLES / "frames"))
        return Chain(DEMO, [stills, VideoFile(SAMPLES / "clip.avi")])
    path = Path(address)
    if address.isdecimal() and not path.exists():
        return Camera(int(address))
    if path.is_dir():
        return StillFrames(path.resolve().name or "root", _images_in(path))
    if not path.exists():
        raise SourceError(
            f"{address} does not exist; name an image, a folder of images, a video, "
            f"a camera's number such as 0, or '{DEMO}'"
        )
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return StillFrames(path.stem, [path])
    # FFmpeg takes even a text file for a video, so the name has to say so.
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return VideoFile(path)
    known = ", ".join(IMAGE_SUFFIXES + VIDEO_SUFFIXES)
    raise InputError(f"{address} is neither an image nor a video by its name ({known})")


def _images_in(folder: Path) -> list[Path]:
    # Not its subfolders: our own pictures of an earlier run may lie there.
    try:
        paths = [
            path
            for path in folder.iterdir()
            if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
        ]
    except OSError as e:
        raise SourceError(f"{folder} cannot be read ({e.strerror})") from e
    if not paths:
        raise SourceError(
            f"{folder} holds no image ({', '.join(IMAGE_SUFFIXES)}); "
            "subfolders are not searched, name one of them"
        )
    return sorted(paths, key=lambda path: natural_key(path.name))
