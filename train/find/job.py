"""The finder's job: packed frames in; averaged weights and figures out."""

import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch

from edgecell.data.frame_pack import PackedFrame
from edgecell.data.frames import LabelBox
from edgecell.edge.find.finder import STRIDE, decode, levels_by_glass
from edgecell.errors import InputError
from edgecell.files import write_atomically
from edgecell.image.preprocess import Bgr
from edgecell.image.red_cells import glass_colour
from edgecell.image.resizing import shrink
from edgecell.train.find.feed import Batch, Feed, batch
from edgecell.train.find.judge import LEAST, FinderFigures, Judged, judge
from edgecell.train.find.light import developed
from edgecell.train.find.network import (
    FinderNetwork,
    finder_weights,
    set_finder_weights,
)
from edgecell.train.find.scene import Scene
from edgecell.train.find.targets import finder_loss
from edgecell.train.find.views import Views
from edgecell.train.job.config import RunConfig
from edgecell.train.job.files import RESULT, SUMMARY
from edgecell.train.job.training import Training, device_name, half_kernels
from edgecell.train.networks.finder import FinderSpec


@dataclass(frozen=True)
class FinderConfig(RunConfig):
    """Settings of the finder's job.

    Attributes:
        spec: the network.
        side: longest side of the working image, pixels.
        glass: level that the glass is brought to.
        middle: of the standardised input, levels.
        spread: of the standardised input, levels.
        workers: processes that make views beside the one that trains; 0 for none.
    """

    batch_size: int = 16
    learning_rate: float = 4e-3
    weight_decay: float = 0.02
    ema: float = 0.997
    validate_s: float = 180.0
    spec: FinderSpec = field(default_factory=FinderSpec)
    side: int = 256
    glass: float = 224.0
    middle: float = 160.0
    spread: float = 64.0
    workers: int = 0

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> "FinderConfig":
        """Inverse of `to_dict`; unknown keys are a TypeError."""
        spec = FinderSpec(tuple(d["spec"]["widths"]), d["spec"]["blocks"])
        return cls(**(d | {"spec": spec}))


class FinderJob(Training[FinderNetwork, FinderFigures]):
    """One run of a finder.

    Without workers a resumed run is the uninterrupted one, to the last bit, if batches
    alone limit it and a processor trains it. With
    workers it draws other views than that would have, as do two runs of one seed: their
    batches arrive in any order.

    Attributes:
        config: the settings.
        val: frames to choose by, at working size.
    """

    def __init__(
        self,
        config: FinderConfig,
        frames: Sequence[PackedFrame],
        device: torch.device,
    ) -> None:
        """
        Args:
            config: the settings.
            frames: what to train on and to choose by.
            device: where to train.

        Raises:
            InputError: there are no frames to train on or to choose by; or one is
                damaged.
        """
        self.config = config
        train = [frame for frame in frames if frame.split == "train"]
        self.val = [
            working(frame, config.side) for frame in frames if frame.split == "val"
        ]
        if not any(frame.whole for frame in train) or not self.val:
            raise InputError("the packed files hold no frames to train or choose by")
        self.sources = Counter(frame.source for frame in train)
        self._rng = np.random.default_rng(config.seed)
        with ThreadPoolExecutor() as pool:
            scenes = list(pool.map(self._scene, train))
        self.views = Views(scenes, config.side, config.glass, self._rng)
        self._feed: Feed | None = None
        torch.manual_seed(config.seed)
        network, averaged = (
            FinderNetwork(config.spec).to(device, memory_format=torch.channels_last)
            for _ in range(2)
        )
        super().__init__(config, network, averaged, device)

    def set_first_weights(self, weights: Mapping[str, npt.NDArray[Any]]) -> None:
        """Starts from other weights than random ones.

        Raises:
            InputError: they are another network's.
        """
        for network in (self.network, self.averaged):
            set_finder_weights(network, weights)

    def _scene(self, frame: PackedFrame) -> Scene:
        image = frame.decoded()
        levels = self._levels(image)
        return Scene(levels, frame.boxes, frame.whole, image.shape[:2])

    def _levels(self, image: Bgr) -> npt.NDArray[np.uint8]:
        """A picture relative to its glass, uint8 RGB."""
        table = levels_by_glass(glass_colour(image), self.config.glass)
        levels = cv2.LUT(image, table.astype(np.uint8)[None])
        return np.ascontiguousarray(levels[..., ::-1])

    def _standardised(self, levels: torch.Tensor) -> torch.Tensor:
        """Levels (N, 3, H, W) as a network takes them."""
        x = (levels - self.config.middle) / self.config.spread
        return x.contiguous(memory_format=torch.channels_last)

    def _batch(self) -> Batch:
        """Views and targets, in this process's memory."""
        cfg = self.config
        if not cfg.workers:
            return batch(self.views, cfg.batch_size)
        if self._feed is None:  # late, so that a resumed run has other draws
            seed = (cfg.seed, self.step)
            self._feed = Feed(self.views, cfg.batch_size, cfg.workers, seed)
        return self._feed()

    def train_step(self) -> torch.Tensor:
        """Takes one step; returns the mean loss of its batch, on the device."""
        views, maps = (self._moved(part) for part in self._batch())
        with torch.no_grad():
            x = developed(views, self.config.glass, self.generator)
            x = self._standardised(x)
        with self.autocast():
            heat, size = self.network(x)
        return self.learn(finder_loss(heat.float(), size.float(), maps))

    def _moved(self, part: torch.Tensor) -> torch.Tensor:
        """A part of a batch on the device."""
        if self.device.type != "cuda":
            return part
        return part.pin_memory().to(self.device, non_blocking=True)

    def close(self) -> None:
        """Ends the processes that make views."""
        if self._feed is not None:
            self._feed.close()
            self._feed = None

    @torch.no_grad()
    def judged(self) -> FinderFigures:
        """Figures of the averaged weights on the frames to choose by."""
        self.averaged.eval()
        found = []
        for image, boxes in self.val:
            height, width = image.shape[:2]
            levels = cv2.copyMakeBorder(
                self._levels(image),
                0,
                -height % STRIDE,
                0,
                -width % STRIDE,
                cv2.BORDER_CONSTANT,
                value=(self.config.glass,) * 3,
            )
            x = torch.from_numpy(levels.transpose(2, 0, 1)[None]).to(self.device)
            maps = self.averaged(self._standardised(x.float()))
            heat_map, size_map = (m[0].permute(1, 2, 0).cpu().numpy() for m in maps)
            points = decode(heat_map, size_map, (LEAST,) * 3, (width, height))
            found.append(Judged(points, boxes, width, height))
        return judge(found)

    def row(self, found: FinderFigures) -> dict[str, float]:
        """All figures but the scores."""
        return {k: v for k, v in found.to_dict().items() if k != "least_scores"}

    def line(self, found: FinderFigures) -> str:
        """Recall and precision, and the red cells."""
        return (
            f"recall, precision %: white cells {100 * found.white_recall:.1f}, "
            f"{100 * found.white_precision:.1f}, platelets "
            f"{100 * found.platelet_recall:.1f}, {100 * found.platelet_precision:.1f}; "
            f"red cells off by {100 * found.red_cell_error:.1f} %"
        )

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds beside weights."""
        return {"views": json.dumps(self._rng.bit_generator.state)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Inverse of `state`."""
        self._rng.bit_generator.state = json.loads(state["views"])

    def write_result(self, out: Path, found: FinderFigures) -> None:
        """Writes weights and a summary."""
        weights = half_kernels(finder_weights(self.averaged))
        set_finder_weights(self.averaged, weights)  # judged as they'll be read back
        found = self.judged()
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **weights)
        write_atomically(out / RESULT, buffer.getvalue())
        summary = {
            "config": asdict(self.config),
            "step": self.step,
            "seconds": self.trained_s,
            "images": self.step * self.config.batch_size,
            "trained_on": dict(sorted(self.sources.items())),
            "val": {"frames": len(self.val), **found.to_dict()},
            "device": device_name(self.device),
            "torch": torch.__version__,
        }
        write_atomically(out / SUMMARY, json.dumps(summary, indent=1) + "\n")


def working(frame: PackedFrame, side: int) -> tuple[Bgr, tuple[LabelBox, ...]]:
    """A packed frame at working size, with its labels."""
    image = frame.decoded()
    scale = min(1.0, side / max(image.shape[:2]))
    small = Bgr(shrink(image, scale))
    return small, tuple(
        LabelBox(int(label), *(float(scale * edge) for edge in edges))
        for label, *edges in frame.boxes
    )
