"""Frame sources by address: images, a video, a camera, a stream, the samples."""

import re
from collections.abc import Iterable
from glob import glob, has_magic
from importlib.resources import files
from pathlib import Path
from urllib.parse import urlsplit

from edgecell.data.dataset import IMAGE_SUFFIXES
from edgecell.edge.sources.base import Frame, FrameSource
from edgecell.edge.sources.camera import gstreamer_stream, rtsp_stream, v4l_camera
from edgecell.edge.sources.csi import CsiCamera
from edgecell.edge.sources.mjpeg import MjpegStream
from edgecell.edge.sources.still import Chain, StillFrames
from edgecell.edge.sources.video import VideoFile
from edgecell.edge.sources.watch import WatchedFiles
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


def open_source(address: str, watch: bool = False) -> FrameSource:
    """The source that an address names; enter it to open it.

    Args:
        address: an image or video file, a folder or glob of images, 'demo', or a
            camera: its number or device file, csi://0, rtsp://..., http://... (Motion
            JPEG), gst://PIPELINE.
        watch: don't end with the images that are in a folder or glob, but wait for
            more.

    Raises:
        SourceError: there is nothing at that address, or nothing to read.
        InputError: a file of a kind that isn't known, or one to be watched.
    """
    path = Path(address)
    if watch:
        return _watched(address)
    if address == DEMO:
        stills = StillFrames(DEMO, _images_in(SAMPLES / "frames"))
        return Chain(DEMO, [stills, VideoFile(SAMPLES / "clip.avi")])
    if "://" in address:
        return _stream(address)
    # An unplugged camera's link is gone: its name has to say what it would be.
    is_camera = path.is_char_device() or address.startswith(("/dev/v4l/", "/dev/video"))
    if is_camera or (address.isdecimal() and not path.exists()):
        return v4l_camera(address)
    if path.is_dir():
        return StillFrames(path.resolve().name or "root", _images_in(path))
    if has_magic(address) and not path.exists():
        return StillFrames(_folder_of(address), _images_like(address))
    if not path.exists():
        raise SourceError(
            f"{address} does not exist; name an image, a folder of images, a video, "
            f"a camera's number such as 0, a stream's address, or '{DEMO}'"
        )
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return StillFrames(path.stem, [path])
    # FFmpeg takes even a text file for a video, so the name has to say so.
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return VideoFile(path)
    known = ", ".join(IMAGE_SUFFIXES + VIDEO_SUFFIXES)
    raise InputError(f"{address} is neither an image nor a video by its name ({known})")


def _stream(address: str) -> FrameSource:
    """The live source that a URL names."""
    scheme, _, rest = address.partition("://")
    if scheme == "csi" and rest.isdecimal():
        return CsiCamera(int(rest))
    if scheme == "gst":
        return gstreamer_stream(address)
    if scheme in ("http", "https", "rtsp", "rtsps"):
        if not _has_host(address):
            raise InputError(f"{scheme}:// is to be followed by a host and a path")
        is_http = scheme.startswith("http")
        return MjpegStream(address) if is_http else rtsp_stream(address)
    raise InputError(
        f"{scheme}:// is no kind of source; these are: csi://0, gst://PIPELINE, "
        "http://HOST/stream.mjpg, rtsp://HOST/PATH"
    )


def _has_host(url: str) -> bool:
    """Whether a URL names a host, and no port that none can have."""
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _watched(address: str) -> FrameSource:
    path = Path(address)
    if path.is_dir():
        return WatchedFiles(path.resolve().name, lambda: _images(path.iterdir()))
    if has_magic(address):
        return WatchedFiles(
            _folder_of(address), lambda: _images(map(Path, glob(address)))
        )
    raise InputError(f"only a folder or a glob can be watched; {address} is neither")


def _folder_of(pattern: str) -> str:
    """Name of the folder that a glob looks into."""
    return Path(pattern).parent.resolve().name or "root"


def _images(paths: Iterable[Path]) -> list[Path]:
    """The images among files, in the order that people count in."""
    images = [p for p in paths if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()]
    return sorted(images, key=lambda path: natural_key(path.name))


def _images_like(pattern: str) -> list[Path]:
    images = _images(map(Path, glob(pattern)))
    if not images:
        raise SourceError(f"no image is like {pattern} ({', '.join(IMAGE_SUFFIXES)})")
    return images


def _images_in(folder: Path) -> list[Path]:
    # Not its subfolders: our own pictures of an earlier run may lie there.
    try:
        images = _images(folder.iterdir())
    except OSError as e:
        raise SourceError(f"{folder} cannot be read ({e.strerror})") from e
    if not images:
        raise SourceError(
            f"{folder} holds no image ({', '.join(IMAGE_SUFFIXES)}); "
            "subfolders are not searched, name one of them"
        )
    return images
