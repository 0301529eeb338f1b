"""Frame sources by address: images, a video, a camera, a stream, the samples."""

from functools import partial
from glob import glob, has_magic
from pathlib import Path
from urllib.parse import urlsplit

from edgecell.data.dataset import IMAGE_SUFFIXES
from edgecell.edge.sources import SAMPLES
from edgecell.edge.sources.base import Frame, FrameSource
from edgecell.edge.sources.camera import gstreamer_stream, rtsp_stream, v4l_camera
from edgecell.edge.sources.csi import CsiCamera
from edgecell.edge.sources.mjpeg import MjpegStream
from edgecell.edge.sources.secrets import public_address
from edgecell.edge.sources.still import (
    VIDEO_SUFFIXES,
    Chain,
    Listing,
    StillFrames,
    images_in,
    images_like,
    listed,
)
from edgecell.edge.sources.video import VideoFile
from edgecell.edge.sources.watch import WatchedFiles
from edgecell.errors import InputError, SourceError
from edgecell.files import printable

__all__ = ["DEMO", "Frame", "FrameSource", "open_source"]

DEMO = "demo"


def open_source(address: str, watch: bool = False) -> FrameSource:
    """The source that an address names; enter it to open it.

    Args:
        address: an image or video file, a folder or glob of images, 'demo', or a
            camera: its number or device file, csi://0, rtsp://..., http://... (Motion
            JPEG), gst://PIPELINE.
        watch: don't end with the images that are in a folder or glob, but wait for
            more.

    Raises:
        SourceError: nothing was found at that address, or nothing that can be read.
        InputError: no address, a file of a kind that isn't known, or one to be watched.
    """
    if not address.strip():  # an unset variable, and not the present folder
        raise InputError("the source is empty; name one, such as 0 or 'demo'")
    try:
        return _watched(address) if watch else _opened(address)
    except OSError as e:
        shown = public_address(address)
        raise SourceError(f"{shown} cannot be read ({e.strerror})") from e


def _opened(address: str) -> FrameSource:
    path = Path(address)
    if address == DEMO:
        stills = StillFrames(DEMO, images_in(SAMPLES / "frames"))
        return Chain(DEMO, [stills, VideoFile(SAMPLES / "clip.avi")])
    if "://" in address:
        return _stream(address)
    # An unplugged camera's link is gone, so only the name shows what it is.
    is_camera = path.is_char_device() or address.startswith(("/dev/v4l/", "/dev/video"))
    if is_camera or (address.isdecimal() and not path.exists()):
        return v4l_camera(address)
    if path.is_dir():
        return StillFrames(_folder_name(path), images_in(path))
    if has_magic(address) and not path.exists():
        return StillFrames(_folder_name(path.parent), images_like(address))
    return _file(path)


def _file(path: Path) -> FrameSource:
    """The image or video of that name."""
    if not path.exists():
        raise SourceError(
            f"{public_address(str(path))} does not exist; name an image, a folder of "
            "images, a video, a camera's number such as 0, a stream's address, or "
            f"'{DEMO}'"
        )
    if not path.is_file():
        raise InputError(f"{path} is not a regular file; name an image or a video")
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return StillFrames(printable(path.stem), Listing((path,)))
    # FFmpeg accepts even a text file as a video, so the name decides.
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return VideoFile(path)
    known = ", ".join(IMAGE_SUFFIXES + VIDEO_SUFFIXES)
    raise InputError(f"{path} is neither an image nor a video by its name ({known})")


def _stream(address: str) -> FrameSource:
    """The live source that a URL names."""
    if printable(address) != address:
        raise InputError(
            "the address is not valid UTF-8; write its other bytes as %XX, such as %E4"
        )
    scheme, _, rest = address.partition("://")
    if scheme == "csi" and rest.isdecimal():
        return CsiCamera(int(rest))
    if scheme == "gst":
        return gstreamer_stream(address)
    if scheme in ("http", "https", "rtsp", "rtsps"):
        if not _has_host(address):
            raise InputError(f"{scheme}:// must be followed by a host and a path")
        is_http = scheme.startswith("http")
        return MjpegStream(address) if is_http else rtsp_stream(address)
    raise InputError(
        f"{scheme}:// is not a supported kind of source; use csi://0, gst://PIPELINE, "
        "http://HOST/stream.mjpg, rtsp://HOST/PATH"
    )


def _has_host(url: str) -> bool:
    """Whether a URL names a host, and no impossible port."""
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _watched(address: str) -> FrameSource:
    path = Path(address)
    if path.is_dir():
        return WatchedFiles(_folder_name(path), lambda: listed(path.iterdir()))
    if has_magic(address):
        files = partial(glob, address)
        return WatchedFiles(
            _folder_name(path.parent), lambda: listed(map(Path, files()))
        )
    shown = public_address(address)
    raise InputError(f"only a folder or a glob can be watched; {shown} is neither")


def _folder_name(folder: Path) -> str:
    return printable(folder.resolve().name) or "root"
