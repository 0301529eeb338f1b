"""Where cameras put their passwords, as their makers' manuals have it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecell.edge.sources.address import open_source
from edgecell.edge.sources.secrets import (
    hides_something,
    public_address,
    read_address,
    stream_name,
)
from edgecell.errors import EdgecellError, InputError

SECRET = "s3cret-Pw"
ADDRESSES = [
    "rtsp://admin:{}@10.0.0.7:554/h264",
    "RTSP://admin:{}@10.0.0.7/h264",
    "rtsp://admin:{}/x#y?z@w@10.0.0.7/h264",
    "rtsp:/admin:{}@10.0.0.7/h264",
    "http://10.0.0.7/videostream.cgi?user=admin&pwd={}",
    "http://10.0.0.7/snapshot.cgi?loginuse=admin&loginpas={}&resolution=8",
    "http://10.0.0.7/video?usr={0}&pw={0}",
    "http://10.0.0.7/video?channel=1#token={}",
    "http://10.0.0.7/mjpeg?{}",
    "rtsp://10.0.0.7/cam/realmonitor?channel=1&subtype=0&authbasic={}",
    "rtsp://10.0.0.7:554/user=admin&password={}&channel=1&stream=0.sdp",
    "rtsp://10.0.0.7:554/user=admin_password={}_channel=1_stream=0.sdp?real_stream",
    "rtsp://10.0.0.7/admin:{}/live",
    "rtsp://10.0.0.7/live;password={};transport=tcp",
    "gst://rtspsrc location=rtsp://admin:{}@10.0.0.7/h264 ! decodebin",
    "gst://rtspsrc location=rtsp://10.0.0.7/h user-id=anna user-pw={} ! decodebin",
    "gst://rtspsrc location=\"rtsp://10.0.0.7/h\" user-pw = '{} x' ! decodebin",
    "gst://souphttpsrc location=http://c/v?pwd={} ! jpegdec",
    'gst://souphttpsrc location=http://c/v cookies="a={}" ! jpegdec',
]


@pytest.mark.parametrize("pattern", ADDRESSES)
def test_no_password_is_shown(pattern: str) -> None:
    address = pattern.format(SECRET)
    assert SECRET not in public_address(address)
    assert SECRET not in stream_name(address)
    assert hides_something(address)
    shown = public_address(address)
    assert not hides_something(shown) or "***" in shown


@pytest.mark.parametrize(
    ("address", "shown", "name"),
    [
        (
            "rtsp://anna:x@10.0.0.7:554/live/ch0?channel=1&pwd=y",
            "rtsp://10.0.0.7:554/live/ch0?channel=1&pwd=***",
            "10.0.0.7-live-ch0",
        ),
        (
            "rtsp://10.0.0.7/user=a&password=b&channel=1&stream=0.sdp",
            "rtsp://10.0.0.7/user=***&password=***&channel=1&stream=0.sdp",
            "10.0.0.7-channel=1-stream=0.sdp",
        ),
        ("http://[fe80::1]:80/x@y", "http://[fe80::1]:80/x@y", "fe80-1-x-y"),
        ("http://10.0.0.7:80/live@main", "http://10.0.0.7:80/live@main",
         "10.0.0.7-live-main"),
        (
            "gst://v4l2src device=/dev/video0 ! video/x-raw,width=640",
            "gst://v4l2src device=/dev/video0 ! video/x-raw,width=640",
            "v4l2src-device=-dev-video0-video-x-raw-width=640",
        ),
        ("http://c/" + "a" * 300, "http://c/" + "a" * 300, "c-" + "a" * 58),
    ],
)  # fmt: skip
def test_what_is_harmless_is_shown(address: str, shown: str, name: str) -> None:
    assert public_address(address) == shown
    assert stream_name(address) == name


@pytest.mark.parametrize(
    "address", ["0", "demo", "csi://0", "/dev/video0", "a?pwd=x.jpg", "slides/*.png"]
)
def test_files_and_cameras_hide_nothing(address: str) -> None:
    assert public_address(address) == address
    assert not hides_something(address)


def test_an_address_in_a_terminal_steers_nothing() -> None:
    assert public_address("http://c/\x1b[2J\udce4") == "http://c/\\x1b[2J\\udce4"


@given(st.text(max_size=60))
def test_any_text_is_taken(text: str) -> None:
    for prefix in ("", "rtsp://", "gst://", "http://u:p@h/"):
        name = stream_name(prefix + text)
        assert "/" not in name
        assert public_address(prefix + text).isprintable()


WORDS = st.text("abcXYZ019.-", min_size=6, max_size=12).map(lambda word: f"Q{word}Q")


@given(WORDS, st.sampled_from(["anna:{}@", "{}:x@", "{}@"]), st.sampled_from(
    ["", "/", "/a/b", "/a?channel=1", "/user={}&x=1"]))  # fmt: skip
def test_a_password_of_any_letters_is_hidden(word: str, user: str, path: str) -> None:
    address = f"rtsp://{user}10.0.0.7{path}".format(*[word] * 2)
    assert word not in public_address(address) + stream_name(address)


def test_the_source_has_no_password_in_its_name() -> None:
    for address in ADDRESSES[4:]:
        if not address.startswith("gst"):
            assert SECRET not in open_source(address.format(SECRET)).name


@pytest.mark.parametrize("watch", [True, False])
def test_no_message_about_a_mistyped_address_has_a_password(watch: bool) -> None:
    address = f"rtsp:/anna:{SECRET}@10.0.0.7/live"
    with pytest.raises(EdgecellError) as caught:
        open_source(address, watch)
    assert SECRET not in str(caught.value)


def test_an_address_in_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "camera"
    path.write_text("rtsp://anna:x@10.0.0.7/live\n")
    path.chmod(0o600)
    assert read_address(f"@{path}") == "rtsp://anna:x@10.0.0.7/live"
    path.chmod(0o644)
    with pytest.raises(InputError, match="chmod 600"):
        read_address(f"@{path}")


@pytest.mark.parametrize("text", ["", "\n", "one\ntwo\n", "x" * 5000])
def test_a_file_without_an_address(tmp_path: Path, text: str) -> None:
    path = tmp_path / "camera"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(InputError, match="one line"):
        read_address(f"@{path}")
    with pytest.raises(InputError, match="No such file"):
        read_address(f"@{tmp_path}/none")
