"""What the sources that read files do beside the contract of `test_sources`."""

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image as PillowImage

from edgecell.edge.sources import SAMPLES
from edgecell.edge.sources import video as sources_video
from edgecell.edge.sources.address import open_source
from edgecell.edge.sources.still import Listing, listed, natural_key, read_image
from edgecell.edge.sources.video import VideoFile
from edgecell.edge.sources.watch import WatchedFiles
from edgecell.errors import EdgecellError, InputError, SourceError
from tests.edge.sources.test_sources import broken, take, write_video

ROOT = Path(__file__).parents[3]
BLUE = (250, 10, 20)
"""B, G, R."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("f10.png", "f2.png"):
        cv2.imwrite(str(tmp_path / name), np.full((30, 40, 3), BLUE, np.uint8))
    return tmp_path


def test_images_are_read_in_the_order_that_people_count_in(folder: Path) -> None:
    with open_source(str(folder)) as source:
        frames = take(source, None)
    assert [f.name for f in frames] == ["f2.png", "f10.png"]
    assert tuple(frames[0].image[0, 0]) == BLUE


@pytest.mark.parametrize(("name", "fourcc"), [("v.avi", "MJPG"), ("v.mp4", "mp4v")])
def test_a_video_keeps_its_own_times(tmp_path: Path, name: str, fourcc: str) -> None:
    with open_source(str(write_video(tmp_path / name, 6, fourcc))) as source:
        frames = take(source, None)
    assert [f.time_s for f in frames] == pytest.approx([0.08 * i for i in range(6)])
    levels = [float(f.image.mean()) for f in frames]
    assert levels == pytest.approx([10 * i for i in range(6)], abs=6)


def test_the_demo_shows_stills_and_then_the_clip() -> None:
    with open_source("demo") as source:
        frames = take(source, None)
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


@pytest.mark.parametrize("kind", ["empty", "text", "cut"])
def test_a_broken_image_is_an_error(tmp_path: Path, kind: str) -> None:
    path = broken(tmp_path / "x.jpg", kind)
    with open_source(str(path)) as source, pytest.raises(InputError, match=r"x\.jpg"):
        list(source)


def test_a_broken_image_in_a_folder_is_skipped_and_named(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken(folder / "f1.jpg", "cut")
    with caplog.at_level(logging.WARNING), open_source(str(folder)) as source:
        take(source, None)
    assert list(source.skipped.names) == ["f1.jpg"]
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
        "from edgecell.edge.sources.address import open_source\n"
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
        frames = take(source, None)
    assert 0 < len(frames) < 20
    assert "of 20 frames" in caplog.text


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

    from edgecell.data.dataset import split_of

    for path in (SAMPLES / "cells").iterdir():
        assert split_of(sha256(path.read_bytes()).hexdigest()) == "test"


def watched(folder: Path) -> WatchedFiles:
    """A folder that is watched without a pause."""
    return WatchedFiles("f", lambda: listed(folder.iterdir()), poll_s=0)


def test_a_watched_folder_gives_each_picture_once_and_when_it_is_whole(
    tmp_path: Path,
) -> None:
    whole = (SAMPLES / "frames" / "bccd_1.jpg").read_bytes()
    (tmp_path / "1.jpg").write_bytes(whole)
    source = watched(tmp_path)
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


def test_a_file_that_vanishes_while_it_is_looked_at_hides_no_other(
    tmp_path: Path,
) -> None:
    whole = SAMPLES / "frames" / "bccd_1.jpg"
    gone = tmp_path / "0.jpg"
    there = (tmp_path / "1.jpg", tmp_path / "2.jpg")
    for path in there:
        path.write_bytes(whole.read_bytes())
    looks = [there, there, (there[0], gone, there[1]), there, there]
    source = WatchedFiles("f", lambda: Listing(looks.pop(0)), poll_s=0)
    stream = iter(source)
    names = [frame and frame.name for frame in (next(stream) for _ in range(7))]
    assert names == [None, "1.jpg", "2.jpg", None, None, None, None]
    assert next(iter(watched(tmp_path / "away"))) is None


def test_only_folders_and_globs_are_watched(folder: Path) -> None:
    for address in (f"{folder}/f2.png", "demo", "0", "http://127.0.0.1/x"):
        with pytest.raises(InputError, match="only a folder or a glob"):
            open_source(address, watch=True)
    with pytest.raises(SourceError, match="no image matches"):
        open_source(f"{folder}/z*.png")


def test_frames_after_a_damaged_one_are_read_and_it_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_video(tmp_path / "v.avi", 24)
    data = bytearray(path.read_bytes())
    at = len(data) // 4
    for _ in range(3):
        at = data.index(b"00dc", at + 4)
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        data[at + 8 : at + 8 + size] = bytes(size)
    path.write_bytes(data)
    with caplog.at_level(logging.WARNING), VideoFile(path) as source:
        frames = take(source, None)
    assert len(frames) == 21
    times = [frame.time_s or 0.0 for frame in frames]
    assert times == sorted(set(times))
    assert source.skipped.count == 3
    assert list(source.skipped.names) == ["v.avi"]
    assert "3 damaged frames were left out, 21 were read" in caplog.text


def latin1(path: Path, name: bytes, content: bytes) -> Path:
    """A file whose name is not UTF-8, as an older Windows wrote them."""
    file = Path(os.fsdecode(os.fsencode(path) + b"/" + name))
    try:
        file.write_bytes(content)
    except OSError:
        pytest.skip("this file system takes no such name")
    return file


def test_names_that_are_no_utf_8_are_read_and_can_be_written_down(
    tmp_path: Path,
) -> None:
    video = latin1(tmp_path, b"v\xe4.avi", (SAMPLES / "clip.avi").read_bytes())
    image = latin1(
        tmp_path, b"z\xe4hler.jpg", (SAMPLES / "frames" / "bccd_1.jpg").read_bytes()
    )
    for address in (video, image, tmp_path):
        with open_source(str(address)) as source:
            (frame,) = take(source, 1)
        for name in (source.name, frame.name):
            assert name.encode()
    assert frame.name == "z\\udce4hler.jpg"


@pytest.mark.parametrize("scheme", ["rtsp", "http", "gst"])
def test_an_address_that_is_no_utf_8_is_refused(scheme: str) -> None:
    """Some releases of OpenCV crash on one."""
    with pytest.raises(InputError, match="not valid UTF-8"):
        open_source(os.fsdecode(scheme.encode() + b"://127.0.0.1/\xe4"))


def test_pictures_of_other_kinds_are_counted_and_named_once(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    others = ["a.heic", "b.HEIC", "c.gif", "d.mp4", "e.svs", "f.ico", "g.pcx"]
    (folder / "day 2").mkdir()
    for name in (*others, "notes.txt", "._f2.png", ".f3.png"):
        (folder / name).write_bytes(b"x")
    (folder / ".Trash-1000").mkdir()
    (folder / ".Trash-1000" / "f4.png").write_bytes((folder / "f2.png").read_bytes())
    for address in (folder, folder / "*", folder / "*" / "*"):
        with caplog.at_level(logging.WARNING):
            try:
                with open_source(str(address)) as source:
                    frames = take(source, None)
            except SourceError:
                assert address == folder / "*" / "*"
                continue
        assert [f.name for f in frames] == ["f2.png", "f10.png"]
        assert list(source.skipped.names) == others
        assert "not read: 1 .gif, 2 .heic, 1 .ico, 1 .mp4, 1 .pcx" in caplog.text
        assert "folders are not searched: day 2\n" in caplog.text


def test_a_watched_folder_names_each_other_picture_once(folder: Path) -> None:
    (folder / "a.heic").write_bytes(b"x")
    (folder / "._f2.png").write_bytes(b"x")
    source = watched(folder)
    stream = iter(source)
    with source:
        for _ in range(5):
            next(stream)
        (folder / "b.heic").write_bytes(b"x")
        for _ in range(3):
            next(stream)
    assert list(source.skipped.names) == ["a.heic", "b.heic"]


def test_pages_of_a_tiff_that_are_not_read_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pages = [PillowImage.new("RGB", (30, 20)) for _ in range(4)]
    pages[0].save(tmp_path / "x.tif", save_all=True, append_images=pages[1:])
    with (
        caplog.at_level(logging.WARNING),
        open_source(str(tmp_path / "x.tif")) as source,
    ):
        assert len(take(source, None)) == 1
    assert source.skipped.count == 3
    assert list(source.skipped.names) == ["x.tif (pages 2 to 4)"]
    assert "3 more pages not read" in caplog.text


def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path) -> None:
    for name in ("x.jpg", "x.avi"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(InputError, match="not a regular file"):
            open_source(str(tmp_path / name))
    with pytest.raises(SourceError, match="holds no image"):
        open_source(str(tmp_path))


def test_a_name_that_is_too_long_is_one_error() -> None:
    with pytest.raises(SourceError, match="File name too long"):
        open_source("x" * 5000)
    for watch in (True, False):
        with pytest.raises(EdgecellError):
            open_source("y" * 300 + "/*.jpg", watch)


def test_a_video_of_huge_frames_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "v.avi", 2)
    monkeypatch.setattr(sources_video, "LARGEST_PIXELS", 160 * 120 - 1)
    with (
        pytest.raises(SourceError, match="frames of 160 x 120 pixels, too many"),
        VideoFile(path),
    ):
        pass


def test_an_unset_variable_does_not_name_the_present_folder() -> None:
    for nothing in ("", " "):
        for watch in (False, True):
            with pytest.raises(InputError, match="the source is empty"):
                open_source(nothing, watch)
