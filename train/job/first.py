"""First weights of a job, read back from a converted network where TensorFlow is."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from edgecell.cli import PoliteCommand
from edgecell.train.job.files import Triple, write_first

# Views that give a converted network its statistics back.
_BATCHES, _BATCH = 16, 32


def read_back(
    init: str, roots: Sequence[Path]
) -> tuple[dict[str, npt.NDArray[Any]], Triple, Triple]:
    """Weights of a model file, and what its inputs are standardised with.

    Args:
        init: a converted GRsNet, a ``.keras`` file, or 'bundled'.
        roots: labelled cells like those of training, which give back the statistics
            that conversion folded into the convolutions.

    Returns:
        Weights (see `edgecell.train.job.networks.network.Weights`), mean and deviation.

    Raises:
        EdgecellError: the model or the cells can't be read.
    """
    from edgecell.data.dataset import load_images, sample, scan
    from edgecell.image.preprocess import standardise
    from edgecell.model.kerasfile import read_keras_record
    from edgecell.model.modelfile import read_tflite, resolve
    from edgecell.optional import require
    from edgecell.train.augment import AugmentConfig, augment
    from edgecell.train.networks.keras_weights import get_keras_weights
    from edgecell.train.networks.models import build_model
    from edgecell.train.weights import set_first_weights

    require("tensorflow", "train")
    path = resolve(init)
    keras_file = path.suffix == ".keras"
    record = read_keras_record(path) if keras_file else read_tflite(path)[1]
    prep = record.preprocessing
    files = [f for f in scan(roots) if f.split == "train"]
    chosen = sample(files, -(-_BATCHES * _BATCH // 12), seed=1)
    images = load_images(chosen, prep, margin=1.285)
    views = (
        standardise(
            augment(
                images[i : i + _BATCH], prep.input_size, 1.0, (1, i), AugmentConfig()
            ),
            prep,
        )
        for i in range(0, len(images), _BATCH)
    )
    model = build_model(record.network["name"], len(record.classes), prep.input_size)
    set_first_weights(model, init, prep, views)
    return get_keras_weights(model), prep.mean, prep.std


def imagenet() -> tuple[dict[str, npt.NDArray[Any]], Triple, Triple]:
    """ImageNet's weights of EfficientNet-Lite0, kernels in half precision.

    Raises:
        MissingPackageError: the package that holds them is not installed.
    """
    from edgecell.train.networks.imagenet import MEAN, STD, imagenet_weights

    weights = {
        name: w.astype(np.float16) if w.ndim > 1 else w
        for name, w in imagenet_weights().items()
        if not name.startswith("_fc.")
    }
    return weights, (MEAN,) * 3, (STD,) * 3


@click.command(cls=PoliteCommand)
@click.argument("data", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--init",
    default="bundled",
    show_default=True,
    help="Model file; or 'imagenet': EfficientNet-Lite0, to teach, without DATA.",
)
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="File to write."
)
def command(data: tuple[Path, ...], init: str, out: Path) -> None:
    """Read a model's weights back, as first weights of a job; DATA: training cells."""
    if bool(data) == (init == "imagenet"):
        raise click.UsageError("give DATA with a model file, and none with 'imagenet'")
    write_first(out, *(read_back(init, data) if data else imagenet()))


if __name__ == "__main__":
    command()
