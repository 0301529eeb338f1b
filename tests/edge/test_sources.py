import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgecell.edge import sources_watch
from edgecell.edge.sources import (
    SAMPLES,
    Frame,
    FrameSource,
    natural_key,
    open_source,
)
from edgecell.edge.sources_camera import as_frame, v4l_camera
from edgecell.edge.sources_still import read_image
from edgecell.edge.sources_video import VideoFile
from edgecell.errors import EdgecellError, InputError, SourceError

ROOT = Path(__file__).parent.parent.parent
BLUE = (250, 10, 20)
"""B, G, R."""


def write_video(path: Path, frames: int, fourcc: str = "MJPG") -> Path:
    """Frame i is grey of level 10 i; 12.5 frames/s."""
    writer = cv2.VideoWriter(
        str(path), cv2.VideoWriter.fourcc(*fourcc), 12.5, (160, 120)
    )
    for i in range(frames):
        writer.write(np.full((120, 160, 3), 10 * i, np.uint8))
    writer.release()
    return path


def frames_of(source: FrameSource) -> list[Frame]:
    return [frame for frame in source if frame is not None]


@pytest.fixture
def places(tmp_path: Path) -> dict[str, str]:
    """Addresses of one source of each kind that is a file."""
    image = np.full((30, 40, 3), BLUE, np.uint8)
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("f10.png", "f2.png", "notes.txt"):
        if name.endswith("txt"):
            (folder / name).write_text("no frame")
        else:
            cv2.imwrite(str(folder / name), image)
    return {
        "image": str(folder / "f2.png"),
        "folder": str(folder),
        "glob": str(folder / "f*"),
        "video": str(write_video(tmp_path / "v.avi", 6)),
        "mpeg4": str(write_video(tmp_path / "v.mp4", 6, "mp4v")),
        "demo": "demo",
    }


@pytest.mark.parametrize(
    ("kind", "total", "moving"),
    [
        ("image", 1, False),
        ("folder", 2, False),
        ("glob", 2, False),
        ("video", 6, True),
        ("mpeg4", 6, True),
        ("demo", None, None),
    ],
)
def test_every_file_source_keeps_the_contract(
    places: dict[str, str], kind: str, total: int | None, moving: bool | None
) -> None:
    source = open_source(places[kind])
    for _ in range(2):  # a source may be entered again
        with source:
            frames = frames_of(source)
        assert source.total == len(frames)
        assert total is None or len(frames) == total
        assert [f.index for f in frames] == list(range(len(frames)))
        assert not source.live
        assert source.skipped.count == 0
        assert "/" not in source.name
        for frame in frames:
            check_frame(frame)
            assert moving is None or (frame.time_s is not None) is moving


def check_frame(frame: Frame) -> None:
    assert frame.image.dtype == np.uint8
    assert frame.image.ndim == 3
    assert frame.image.shape[2] == 3
    assert 0 <= frame.age_s < 5


def test_frames_are_bgr_and_in_the_order_that_people_count_in(
    places: dict[str, str],
) -> None:
    with open_source(places["folder"]) as source:
        frames = frames_of(source)
    assert [f.name for f in frames] == ["f2.png", "f10.png"]
    assert tuple(frames[0].image[0, 0]) == BLUE


def test_a_video_keeps_its_own_times(places: dict[str, str]) -> None:
    for kind in ("video", "mpeg4"):
        with open_source(places[kind]) as source:
            frames = frames_of(source)
        assert [f.time_s for f in frames] == pytest.approx([0.08 * i for i in range(6)])
        levels = [float(f.image.mean()) for f in frames]
        assert levels == pytest.approx([10 * i for i in range(6)], abs=6)


def test_the_demo_shows_stills_and_then_the_clip() -> None:
    with open_source("demo") as source:
        frames = frames_of(source)
    moving = [f.time_s is not None for f in frames]
    assert moving == sorted(moving)
    assert moving.count(False) >= 8
    assert 2 <= (frames[-1].time_s or 0) <= 20


@pytest.mark.parametrize("name", ["frame2.png", "Frame10.PNG", "a", "2", ""])
def test_natural_keys_compare(name: str) -> None:
    assert natural_key("frame2") < natural_key("frame10")
    assert isinstance(natural_key(name) < natural_key("frame3.png"), bool)


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_images_of_any_depth_become_8_bit_bgr(
    tmp_path: Path, depth: Any, channels: int
) -> None:
    level = np.iinfo(depth).max // 2
    path = tmp_path / "i.png"
    cv2.imwrite(str(path), np.full((20, 30, channels), level, depth))
    image = read_image(path)
    assert image.shape == (20, 30, 3)
    assert image.dtype == np.uint8
    assert abs(int(image[5, 5, 1]) - 127) <= 1


def broken(path: Path, kind: str) -> Path:
    """A file that isn't what its name says."""
    whole = (SAMPLES / "frames" / "bccd_1.jpg").read_bytes()
    content = {
        "empty": b"",
        "text": b"not an image\n" * 50,
        "cut": whole[: len(whole) // 2],
    }
    path.write_bytes(content[kind])
    return path


@pytest.mark.parametrize("kind", ["empty", "text", "cut"])
def test_a_broken_image_is_an_error(tmp_path: Path, kind: str) -> None:
    path = broken(tmp_path / "x.jpg", kind)
    with open_source(str(path)) as source, pytest.raises(InputError, match=r"x\.jpg"):
        list(source)


def test_a_broken_image_in_a_folder_is_skipped_and_named(
    places: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    broken(Path(places["folder"]) / "f1.jpg", "cut")
    with caplog.at_level(logging.WARNING), open_source(places["folder"]) as source:
        frames = frames_of(source)
    assert [(f.index, f.name) for f in frames] == [(0, "f2.png"), (1, "f10.png")]
    assert (source.skipped.count, *source.skipped.names) == (1, "f1.jpg")
    assert "f1.jpg" in caplog.text


def test_a_folder_of_broken_images_is_an_error(tmp_path: Path) -> None:
    broken(tmp_path / "a.jpg", "text")
    broken(tmp_path / "b.jpg", "empty")
    with (
        open_source(str(tmp_path)) as source,
        pytest.raises(SourceError, match="none of the 2 images"),
    ):
        list(source)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.jpg", None, "does not exist"),
        ("notes.txt", b"text", "neither an image nor a video"),
        ("v.mp4", b"text" * 1000, "cannot be opened as a video"),
        ("v.avi", b"", "cannot be opened as a video"),
        ("folder", "folder", "holds no image"),
    ],
)
def test_what_cannot_be_opened_says_why(
    tmp_path: Path, name: str, content: bytes | str | None, message: str
) -> None:
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        path.mkdir()
    with pytest.raises(EdgecellError, match=message), open_source(str(path)):
        pass


def test_opencv_and_ffmpeg_keep_quiet(tmp_path: Path) -> None:
    (tmp_path / "v.mp4").write_text("text" * 1000)
    code = (
        "from contextlib import suppress\n"
        "from edgecell.edge.sources import open_source\n"
        "from edgecell.errors import SourceError\n"
        "for address in ('v.mp4', '97'):\n"
        "    with suppress(SourceError), open_source(address): pass\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert (done.stdout, done.stderr) == ("", "")


def test_a_video_that_was_cut_short_gives_what_it_has_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_video(tmp_path / "v.avi", 20)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with caplog.at_level(logging.WARNING), VideoFile(path) as source:
        frames = frames_of(source)
    assert 0 < len(frames) < 20
    assert "of 20 frames" in caplog.text


def test_a_camera_that_is_not_there() -> None:
    with pytest.raises(SourceError, match="camera-97 does not answer"):
        open_source("97").__enter__()
    for address in ("9" * 30, "/dev/v4l/by-id/none", "/dev/video97", "/dev/null"):
        with pytest.raises(SourceError, match="does not answer"):
            open_source(address).__enter__()


def test_a_camera_is_looked_up_by_its_link_at_every_opening(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []

    class Closed:
        def __init__(self, number: int, _: int) -> None:
            tried.append(number)

        def isOpened(self) -> bool:
            return False

    monkeypatch.setattr(cv2, "VideoCapture", Closed)
    link = tmp_path / "usb-Microscope-index0"
    source = v4l_camera(str(link))
    assert source.name == "usb-Microscope-index0"
    for number in (0, 12):
        link.unlink(missing_ok=True)
        link.symlink_to(f"/dev/video{number}")
        with pytest.raises(SourceError, match="usb-Microscope-index0 does not answer"):
            source.__enter__()
    link.unlink()
    with pytest.raises(SourceError):
        source.__enter__()
    assert tried == [0, 12]


def test_a_flat_camera_frame_gets_its_shape_back() -> None:
    image = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    assert np.array_equal(as_frame(image.reshape(1, -1), 3, 2), image)
    assert np.array_equal(as_frame(image, 3, 2), image)


def test_the_samples_are_all_there_and_told_of() -> None:
    cells = sorted(p.name for p in (SAMPLES / "cells").iterdir())
    codes = [name.split("_")[0] for name in cells]
    assert len(set(codes)) == 12
    assert all(codes.count(code) >= 2 for code in codes)
    readme = (SAMPLES / "README.md").read_text()
    for path in SAMPLES.rglob("*"):
        if path.is_file() and path.name != "README.md":
            assert path.relative_to(SAMPLES).as_posix() in readme
    sizes = [p.stat().st_size for p in SAMPLES.rglob("*") if p.suffix != ".tflite"]
    assert sum(sizes) < 3e6


def test_no_sample_cell_was_trained_on() -> None:
    from hashlib import sha256

    from edgecell.dataset import split_of

    for path in (SAMPLES / "cells").iterdir():
        assert split_of(sha256(path.read_bytes()).hexdigest()) == "test"


def test_a_watched_folder_gives_each_picture_once_and_when_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources_watch, "_POLL_S", 0.01)
    whole = (SAMPLES / "frames" / "bccd_1.jpg").read_bytes()
    (tmp_path / "1.jpg").write_bytes(whole)
    source = open_source(str(tmp_path), watch=True)
    assert not source.live, "no picture may be lost"
    stream = iter(source)

    def names(looks: int) -> list[str]:
        found = [next(stream) for _ in range(looks)]
        return [f.name for f in found if f is not None]

    with source:
        assert names(4) == ["1.jpg"]
        (tmp_path / "2.jpg").write_bytes(whole[:9999])
        (tmp_path / "notes.txt").write_text("no picture")
        assert names(3) == [], "it is being written"
        (tmp_path / "2.jpg").write_bytes(whole)
        (tmp_path / "1.jpg").unlink()
        assert names(4) == ["2.jpg"]
        (tmp_path / "1.jpg").write_bytes(whole)
        assert names(4) == ["1.jpg"], "another picture of the same name"
        for path in tmp_path.glob("*.jpg"):
            path.rename(path.with_suffix(".away"))
        assert names(2) == []
        for path in tmp_path.glob("*.away"):
            path.rename(path.with_suffix(".jpg"))
        assert names(3) == [], "a share that was away for a moment"
        broken(tmp_path / "3.jpg", "cut")
        os.utime(tmp_path / "3.jpg", (1, 1))
        assert names(3) == []
    assert list(source.skipped.names) == ["3.jpg"]


def test_globs_are_watched_and_files_are_not(places: dict[str, str]) -> None:
    with open_source(places["glob"], watch=True) as source:
        found = [frame for frame, _ in zip(source, range(4), strict=False)]
    assert [f.name for f in found if f] == ["f2.png", "f10.png"]
    for address in (places["image"], "demo", "0", "http://127.0.0.1/x"):
        with pytest.raises(InputError, match="only a folder or a glob"):
            open_source(address, watch=True)
    with pytest.raises(SourceError, match="no image is like"):
        open_source(places["folder"] + "/z*.png")
