import io
import pickle
from pathlib import Path

import numpy as np
import pytest

from edgecell.errors import InputError
from edgecell.image.preprocess import Preprocessing
from edgecell.model.kerasfile import FEATURES_LAYER, HEAD_LAYER
from edgecell.train.networks.cost import count
from edgecell.train.networks.imagenet import (
    imagenet_weights,
    load_imagenet,
    read_state_dict,
)
from edgecell.train.networks.models import FIXED_SIZE, build_model, model_names
from edgecell.train.weights import first_record


def prep(mean: float, std: float) -> Preprocessing:
    return Preprocessing(224, 1.0, 3.0, 95, 240, (mean,) * 3, (std,) * 3)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        # Each paper's count for 1,000 classes, less the difference of the heads,
        # (D + 1) x 988: ResNet50 25,636,712 (Keras), MobileNetV2 3,538,984 (Keras),
        # EfficientNetV2-M 54,431,388 (Keras).
        ("resnet50", 25_636_712 - 2049 * 988),
        ("mobilenet-v2", 3_538_984 - 1281 * 988),
        ("efficientnet-v2m", 54_431_388 - 1281 * 988),
        # ViT-B/16 of Dosovitskiy et al. at 224 pixels with 1,000 classes: 86,567,656;
        # less 147 of 196 position embeddings, the class token, its position, and the
        # patches' bias, which the positions hold.
        ("vit-b16", 86_567_656 - 769 * 988 - 147 * 768 - 3 * 768),
        # 4,652,008 weights and 42,016 batch-normalisation statistics in PyTorch.
        ("efficientnet-lite0", 4_652_008 + 42_016 - 1281 * 988),
    ],
)
def test_published_sizes_and_our_head(name: str, parameters: int) -> None:
    model = build_model(name)
    assert count(model).parameters == parameters
    # The end that ours has as well.
    assert model.output_shape == (None, 12)
    assert len(model.get_layer(FEATURES_LAYER).output.shape) == 4
    assert model.get_layer(HEAD_LAYER).units == 12


@pytest.mark.parametrize("name", sorted(set(model_names()) - set(FIXED_SIZE)))
def test_a_network_of_any_size_is_the_one_of_the_input_size(name: str) -> None:
    # Training sees views of two sizes; 112 pixels give feature maps of odd sides.
    trained, deployed = build_model(name, 12, None), build_model(name, 12, 112)
    rng = np.random.default_rng(0)
    weights = [rng.normal(0.05, 0.1, w.shape) ** 2 for w in trained.get_weights()]
    trained.set_weights(weights)
    deployed.set_weights(weights)
    x = rng.normal(size=(1, 112, 112, 3)).astype(np.float32)
    ours, theirs = (np.asarray(m(x, training=False)) for m in (trained, deployed))
    assert np.all((ours > 0) & np.isfinite(ours))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)


def test_flops_of_attention_by_hand() -> None:
    import keras
    from keras import layers

    x = keras.Input((5, 8))
    model = keras.Model(x, layers.MultiHeadAttention(2, 4)(x, x))
    # Queries, keys, values and output: 4 x 5 x 8 x 8; scores and sums: 2 x 5 x 5 x 8.
    assert count(model).flops == 2 * (4 * 5 * 8 * 8 + 2 * 5 * 5 * 8)


def test_the_transformer_knows_where_a_token_lies() -> None:
    import keras

    model = build_model("vit-b16", 3, 32)
    tokens = keras.Model(model.input, model.get_layer(FEATURES_LAYER).output)
    positions = next(v for v in model.weights if v.shape == (4, 768))
    positions.assign(np.random.default_rng(0).normal(size=(4, 768)))
    same = tokens(np.zeros((1, 32, 32, 3), np.float32)).numpy()[0].reshape(4, -1)
    assert np.abs(same[0] - same[1]).max() > 0.1


def test_imagenet_weights_know_a_palace_and_a_daisy() -> None:
    import cv2
    from sklearn.datasets import load_sample_image

    model = build_model("efficientnet-lite0", 1000, 224)
    load_imagenet(model, imagenet_weights(), prep(100.0, 50.0))
    for name, label in (("china.jpg", 698), ("flower.jpg", 985)):
        image = load_sample_image(name)[:, 106:533]
        small = cv2.resize(image, (224, 224), interpolation=cv2.INTER_AREA)
        x = (small[None].astype(np.float32) - 100) / 50
        assert model(x, training=False).numpy().argmax() == label


def test_other_pickles_are_refused() -> None:
    header = b"".join(pickle.dumps(x, 2) for x in (1, 2, 3))
    evil = io.BytesIO(header + pickle.dumps(Path("x"), 2))
    with pytest.raises(pickle.UnpicklingError, match="does not belong in"):
        read_state_dict(evil)


def test_first_weights_of_another_network_are_refused(tiny_run: Path) -> None:
    with pytest.raises(InputError, match="needs the same network"):
        first_record("grsnet-lite", str(tiny_run / "model.keras"))
    with pytest.raises(InputError, match="not for grsnet-lite"):
        first_record("grsnet-lite", "imagenet")


def test_names_are_unique_and_start_with_ours() -> None:
    names = model_names()
    assert names[:2] == ("grsnet", "grsnet-lite")
    assert len(set(names)) == len(names)
