"""An open model: it classifies cells, finds them in frames and explains them."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgecell.api.images import Channels, read_bgr, read_rgb
from edgecell.edge.analyse.pipeline import CellResult, FrameAnalyser, FrameResult
from edgecell.edge.analyse.single import (
    RedCell,
    SingleCell,
    classify_single,
    view_single,
)
from edgecell.edge.sources.base import Frame
from edgecell.errors import InputError
from edgecell.model import BUNDLED
from edgecell.model.classifier import Classifier
from edgecell.model.modelfile import ModelRecord

if TYPE_CHECKING:
    from edgecell.explain.methods import Explanation


class Model:
    """An open model; see `open_model`.

    Where a method takes an image, give the path of a file, or an array, uint8
    (H, W, 3), with the order of its channels: ``channels="BGR"`` for one from OpenCV,
    ``channels="RGB"`` for one from Pillow. The white is balanced and the cell cut out
    for you, as in training.
    """

    def __init__(self, classifier: Classifier) -> None:
        """Uses an opened model file; `open_model` opens one."""
        self.classifier = classifier
        self._analysers: dict[float | None, FrameAnalyser] = {}

    def __repr__(self) -> str:
        return f"<edgecell.Model {self.classifier.path.name}>"

    @property
    def record(self) -> ModelRecord:
        """The record in the model file: classes, preprocessing, figures."""
        return self.classifier.record

    def classify(
        self,
        image: object,
        *,
        channels: Channels | None = None,
        red_cell_px: RedCell = None,
    ) -> SingleCell:
        """Classifies a single-cell image: a small field with one cell in its middle.

        The network knows cells at one scale. An image that shows as much of the field
        as the training images (about five red cells across) needs nothing more. For
        any other one, say how large a red cell is in it.

        Args:
            image: a path or an array; see `Model`.
            channels: order of an array's channels.
            red_cell_px: diameter of a red cell in the image, pixels, or 'measure'.

        Returns:
            The class, its probability, and the reasons for a person to look at it, if
            any. One image is not enough to identify the microscope. If the model does
            not know the microscope, the class is not reliable, and ``reasons`` doesn't
            say so. A run says so, as does `edgecell classify` with ten images or more.

        Raises:
            InputError: the image can't be read or used; the message says what to do.
        """
        return classify_single(
            self.classifier, read_rgb(image, channels), _diameter(red_cell_px)
        )

    def find_cells(
        self,
        frame: object,
        *,
        channels: Channels | None = None,
        red_cell_px: float | None = None,
    ) -> FrameResult:
        """Finds and classifies the white cells and platelets in a frame.

        Args:
            frame: a frame of `open_source`, or a path or an array; see `Model`. Give
                the frames of one video or camera in their order.
            channels: order of an array's channels.
            red_cell_px: diameter of a red cell in the frame, pixels; None measures it.

        Returns:
            Its cells, each with box, classes, crop and map; `reasons` says whether a
            person should look at one. If the frame is too poor to be analysed, ``gate``
            says why. As with `classify`, the microscope is not identified; a run
            identifies it, and counts each cell once.

        Raises:
            InputError: the frame can't be read or used; the message says what to do.
        """
        if frame is None:
            raise InputError(
                "None is not a frame: a source yields it while it waits, so skip it"
            )
        if not isinstance(frame, Frame):
            name = Path(frame).name if isinstance(frame, str | Path) else "array"
            frame = Frame(0, None, read_bgr(frame, channels), name)
        if red_cell_px not in self._analysers:
            self._analysers[red_cell_px] = FrameAnalyser(self.classifier, red_cell_px)
        return self._analysers[red_cell_px].analyse(frame)

    def reasons(self, cell: CellResult) -> tuple[str, ...]:
        """Says why a person should look at a cell that `find_cells` found.

        Args:
            cell: one of the result's ``cells``.

        Returns:
            Reasons; () if the model's rule accepts the cell's class.
        """
        return cell.reasons(self.record)

    def explain(
        self,
        image: object,
        method: str = "grad-cam",
        *,
        code: str | None = None,
        channels: Channels | None = None,
        red_cell_px: RedCell = None,
        seed: int = 0,
    ) -> "Explanation":
        """Says which parts of a single-cell image speak for a class.

        Args:
            image: a path or an array; see `Model`.
            method: 'grad-cam', 'finer-cam', 'grad-cam++', 'layer-cam', 'lime',
                'kernel-shap' or 'partition-shap'.
            code: the class, such as 'BNE'; None for the one that the model names.
            channels: order of an array's channels.
            red_cell_px: see `classify`.
            seed: the same seed gives the same map.

        Returns:
            The map, float32 (S, S) over the network's view, and the method's scores.

        Raises:
            InputError: the image can't be used, or there is no such method or class.
            MissingPackageError: a package that the method needs is not installed.
        """
        from edgecell.explain.methods import explain
        from edgecell.explainers import EXPLAINERS, check_installed

        codes = self.record.codes
        if code is not None and code not in codes:
            raise InputError(
                f"the model has no class '{code}'; its classes are {', '.join(codes)}"
            )
        if method in EXPLAINERS:
            check_installed(method)
        rgb = read_rgb(image, channels)
        seen, _ = view_single(self.classifier, rgb, _diameter(red_cell_px))
        index = (
            self.classifier.classify(seen).index if code is None else codes.index(code)
        )
        return explain(method, self.classifier, seen, index, seed)


def _diameter(red_cell_px: Any) -> RedCell:
    if red_cell_px is None or red_cell_px == "measure":
        return red_cell_px  # type: ignore[no-any-return]
    try:
        return float(red_cell_px)
    except (TypeError, ValueError):
        raise InputError(
            f"red_cell_px must be a number of pixels or 'measure', not {red_cell_px!r}"
        ) from None


def open_model(model: str | os.PathLike[str] = BUNDLED, *, threads: int = 1) -> Model:
    """Opens a model.

    Args:
        model: a ``.tflite`` file that `edgecell convert` wrote, or 'bundled' for the
            one in the package.
        threads: threads of the network.

    Raises:
        ModelError: there is no such file, or it is not a model of ours.
        MissingPackageError: no TFLite runtime is installed.
    """
    if Path(model).suffix == ".keras":
        raise InputError(
            f"{model} is a trained network that is not yet converted; convert it with "
            "edgecell.convert_model, and open the result"
        )
    return Model(Classifier(model, threads))
