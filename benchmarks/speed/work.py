"""Repeats one stage of a frame, for an emulator to count its instructions.

python -m edgecell.benchmarks.speed.work STAGE N
"""

import sys
from collections.abc import Callable
from dataclasses import replace

import cv2

from edgecell.benchmarks.speed.scene import FRAMES_PER_S, PacedFrames
from edgecell.edge.analyse.pipeline import FrameAnalyser
from edgecell.edge.analyse.scale import ScaleEstimator
from edgecell.edge.count.microscopes import MicroscopeGate
from edgecell.edge.count.tracking import Tracker
from edgecell.edge.count.votes import Rule
from edgecell.edge.find.field import field_of
from edgecell.edge.find.localise import Localiser
from edgecell.edge.find.quality import frame_gate
from edgecell.edge.sources.base import Frame
from edgecell.model.classifier import Classifier
from edgecell.model.modelfile import bundled_finder, bundled_model, read_tflite
from edgecell.model.runtime import open_interpreter

STAGES = {
    "inference": (0, 5),
    "locate": (0, 10),
    "find": (0, 10),
    "classify": (0, 2),
    "follow": (0, 4),
}
"""The network alone; cells looked for in a frame; looked for and cut out; five cells
classified; followed and decided on. Each with the two numbers that are compared."""

_SETTLED = 16
"""Frames after which the scale is known."""


def main(stage: str, count: int) -> None:
    """Prepares, then repeats a stage; preparing costs the same for any number."""
    cv2.setNumThreads(1)
    if stage == "inference":
        interpreter, *_ = open_interpreter(read_tflite(bundled_model())[0], threads=1)
        for _ in range(count):
            interpreter.invoke()
        return
    classifier = Classifier(bundled_model(), threads=1)
    analyser = FrameAnalyser(classifier, None)
    scene = PacedFrames(1, live=False)
    frames = [
        Frame(i, i / FRAMES_PER_S, scene.image_at(i / FRAMES_PER_S), "work", 0.0)
        for i in range(_SETTLED)
    ]
    found = analyser.find(frames[0])
    work: Callable[[int], object]
    if stage == "locate":
        scale, localiser = ScaleEstimator(), Localiser.open(bundled_finder())
        for frame in frames:
            _locate(frame, scale, localiser)

        def work(i: int) -> object:
            return _locate(frames[i % _SETTLED], scale, localiser)

    elif stage == "find":
        for frame in frames[1:]:
            analyser.find(frame)

        def work(i: int) -> object:
            return analyser.find(frames[i % _SETTLED])

    elif stage == "classify":

        def work(i: int) -> object:
            return analyser.classify(found)

    else:
        result, record = analyser.classify(found), classifier.record
        tracker = Tracker(Rule.of_model(record))
        gate = MicroscopeGate(record.microscopes)
        for _ in range(_SETTLED):
            gate.admit(tracker.update(result))

        def work(i: int) -> object:
            return gate.admit(tracker.update(result))

    for i in range(count):
        work(i)


def _locate(frame: Frame, scale: ScaleEstimator, localiser: Localiser) -> object:
    """What `FrameAnalyser.find` does before it cuts cells out."""
    field = field_of(frame.image)
    frame_gate(field.small)
    seen = replace(frame, image=field.image)
    found = localiser.look(field.image, scale.expected(seen), field.small)
    return scale.update(seen, found.red_cell_px)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
