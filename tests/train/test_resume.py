import os
from collections.abc import Callable
from pathlib import Path

import pytest

from edgecell.errors import InputError
from edgecell.train.history import read_history
from edgecell.train.resume import checkpoints, list_again, restore_last

tf = pytest.importorskip("tensorflow")


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 64
    path.write_bytes(content)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eleven checkpoints of a variable, which holds the number of each."""
    value = tf.Variable(tf.zeros(1000))
    manager = tf.train.CheckpointManager(
        tf.train.Checkpoint(value=value), str(tmp_path), max_to_keep=3
    )
    for n in range(1, 12):
        value.assign(tf.fill(1000, float(n)))
        manager.save()
    return tmp_path


def restored(folder: Path) -> float:
    value = tf.Variable(tf.zeros(1000))
    restore_last(tf.train.Checkpoint(value=value), folder)
    return float(value.numpy().mean())


def test_the_last_one_is_found_without_tensorflows_list(folder: Path) -> None:
    names = [Path(path).name for path in checkpoints(folder)]
    assert names == ["ckpt-11", "ckpt-10", "ckpt-9"]
    assert restored(folder) == 11
    emptied(folder / "checkpoint")
    assert restored(folder) == 11
    list_again(folder)
    assert tf.train.latest_checkpoint(str(folder)) == str(folder / "ckpt-11")
    value = tf.Variable(tf.zeros(1000))
    manager = tf.train.CheckpointManager(
        tf.train.Checkpoint(value=value), str(folder), max_to_keep=3
    )
    assert [Path(path).name for path in manager.checkpoints] == [
        *("ckpt-9", "ckpt-10", "ckpt-11")
    ]


@pytest.mark.parametrize("damage", [emptied, cut, flipped, Path.unlink])
@pytest.mark.parametrize("part", ["index", "data-00000-of-00001"])
def test_of_a_damaged_one_the_one_before_is_used(
    folder: Path,
    damage: Callable[[Path], None],
    part: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    damage(folder / f"ckpt-11.{part}")
    assert restored(folder) == 10
    if (folder / "ckpt-11.index").exists():
        assert "ckpt-11 cannot be read" in caplog.text


def test_where_all_are_damaged_it_is_told(folder: Path, tmp_path: Path) -> None:
    for path in folder.glob("*.index"):
        emptied(path)
    with pytest.raises(InputError, match="no checkpoint that can be read"):
        restored(folder)
    with pytest.raises(InputError, match="no checkpoint that can be read"):
        restored(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "text", ["epoch,loss\n1,x\n", "epoch\n1\n", "epoch\0\n1", None]
)
def test_a_damaged_history_is_told(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "history.csv").write_text(text)
    with pytest.raises(InputError, match=r"history\.csv is missing or damaged"):
        read_history(tmp_path / "history.csv")
