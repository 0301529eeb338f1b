from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import cv2
import numpy as np
import pytest

from edgecell.benchmarks.slides.counting import classify_alone, count_cells, score
from edgecell.benchmarks.slides.make_mosaic import mosaic
from edgecell.classes import CODES
from edgecell.edge.analyse.pipeline import CellResult, FrameResult
from edgecell.edge.count.differential import CellCount, Differential
from edgecell.edge.count.tracking import TrackedFrame, Tracker
from edgecell.edge.count.votes import MOST_VOTES, Rule
from edgecell.edge.sources import SAMPLES
from edgecell.edge.sources.base import Frame
from edgecell.edge.sources.still import read_image
from edgecell.image.preprocess import Bgr, Image, crop_square
from edgecell.image.records import Box
from edgecell.model.classifier import Classifier
from edgecell.model.modelfile import bundled_model
from tests.factories import cell_result

FRAMES = sorted((SAMPLES / "frames").glob("bccd*.jpg"))
SLIDE = np.hstack([read_image(path) for path in FRAMES])
WIDTH, HEIGHT = 480, 360
CELL = 80
# Centres on the slide, each a place of its own look.
CELLS = [(200 + 170 * n, 130 + 90 * (n % 3)) for n in range(10)]
SNE, LY = CODES.index("SNE"), CODES.index("LY")


def found(
    box: Box,
    image: Image,
    logits: Sequence[float] | None = None,
    gate: str | None = None,
    cut: bool = False,
) -> CellResult:
    pixels = crop_square(image, box.centre, box.width)
    votes = np.eye(12)[SNE] if logits is None else logits
    return cell_result(
        box,
        pixels=pixels,
        seen=pixels,
        logits=votes,
        gate=gate,
        cut_by_border=cut,
        red_cell_px=60.0,
    )


class Camera:
    """Looks at the slide; tells a tracker of the cells that it sees."""

    def __init__(self, cells: Sequence[tuple[int, int]] = CELLS) -> None:
        self.tracker = Tracker(Rule(CODES))
        self.count = CellCount()
        self.cells = cells
        self.frames = 0
        self.numbers: dict[int, set[int]] = {n: set() for n in range(len(cells))}

    def result(
        self, x: int, y: int, blur: float = 0, gate: str | None = None
    ) -> FrameResult:
        image = SLIDE[y : y + HEIGHT, x : x + WIDTH]
        if blur:
            image = np.asarray(cv2.GaussianBlur(image, (0, 0), blur), np.uint8)
        self.frames += 1
        seen = []
        for cx, cy in self.cells:
            u, v, half = cx - x, cy - y, CELL // 2
            x0, y0 = max(0, u - half), max(0, v - half)
            x1, y1 = min(WIDTH, u + half), min(HEIGHT, v + half)
            if x1 - x0 > 10 and y1 - y0 > 10:
                cut = (x1 - x0, y1 - y0) != (CELL, CELL)
                seen.append(found(Box(x0, y0, x1, y1), image, cut=cut))
        frame = Frame(self.frames, self.frames / 10, Bgr(image), "slide")
        return FrameResult(frame, () if gate else tuple(seen), gate)

    def show(self, result: FrameResult) -> TrackedFrame:
        tracked = self.tracker.update(result)
        self.count.put(tracked.changed)
        return tracked

    def look(self, x: int, y: int = 40, blur: float = 0) -> TrackedFrame:
        tracked = self.show(self.result(x, y, blur))
        for number, cell in zip(tracked.cells, tracked.result.cells, strict=True):
            u, v = cell.record.box.centre
            away = [np.hypot(x + u - cx, y + v - cy) for cx, cy in self.cells]
            if number is not None and not cell.record.cut_by_border:
                self.numbers[int(np.argmin(away))].add(number)
        return tracked

    @property
    def counted(self) -> int:
        return self.count.differential().white_cells

    def whole_at(self, *xs: int) -> int:
        """Cells that lie wholly within one of these views."""
        half = CELL // 2
        return sum(
            any(x + half <= cx <= x + WIDTH - half for x in xs) for cx, _ in self.cells
        )


@pytest.fixture
def camera() -> Camera:
    return Camera()


def test_a_cell_keeps_its_number_while_the_stage_moves(camera: Camera) -> None:
    xs = range(0, 1400, 30)
    for x in xs:
        camera.look(x)
    assert camera.counted == camera.whole_at(*xs)
    assert all(len(numbers) <= 1 for numbers in camera.numbers.values())
    for x in reversed(xs):
        camera.look(x, 60)
    assert camera.counted == camera.whole_at(*xs)


def test_rest_jump_and_return_count_nothing_twice(camera: Camera) -> None:
    for x in (0, 0, 0, 30, 60):
        camera.look(x)
    first = camera.counted
    assert first == camera.whole_at(0, 60)
    camera.look(900)
    assert camera.counted == first + camera.whole_at(900)
    for x in (20, 50, 20):
        camera.look(x, 30)
    camera.look(880, 60)
    assert camera.counted == camera.whole_at(0, 60, 880, 900)
    assert all(len(numbers) <= 1 for numbers in camera.numbers.values())


def test_a_place_reached_by_a_jump_joins_the_map_on_the_way_back(
    camera: Camera,
) -> None:
    for x in (0, 40, 80):
        camera.look(x)
    for x in range(1200, 0, -40):
        camera.look(x)
    for x in range(0, 1200, 40):
        camera.look(x)
    assert camera.counted == camera.whole_at(*range(0, 1200, 40))
    assert all(len(numbers) == 1 for numbers in camera.numbers.values() if numbers)


def test_an_older_map_joins_a_newer_one(camera: Camera) -> None:
    for x in (0, 40, 1200, 1240, 60, *range(80, 1240, 40)):
        camera.look(x)
    assert camera.counted == camera.whole_at(*range(0, 1240, 40))
    assert all(len(numbers) == 1 for numbers in camera.numbers.values() if numbers)
    decisions = camera.count.differential()
    assert decisions.counted == {"SNE": camera.counted}


def test_what_blur_hid_is_united_later(camera: Camera) -> None:
    camera.look(0)
    truth = camera.counted
    camera.look(1200)
    camera.look(0, blur=45)
    assert camera.counted > truth + camera.whole_at(1200), "not known again yet"
    # near enough to the blurred picture to be followed from it
    tracked = camera.look(0, blur=20)
    assert camera.counted == truth + camera.whole_at(1200)
    united = [d for d in tracked.changed if d.same_as is not None]
    assert len(united) == truth
    assert all(d.same_as in tracked.cells and d.cell > d.same_as for d in united)  # type: ignore[operator]


def test_gated_frames_leave_the_map_alone(camera: Camera) -> None:
    camera.look(0)
    tracked = camera.show(camera.result(30, 40, gate="too dark"))
    assert (tracked.cells, tracked.votes, tracked.changed) == ((), (), ())
    camera.look(60)
    assert camera.counted == camera.whole_at(0, 60)


def test_cut_cells_give_way_to_whole_sightings() -> None:
    camera = Camera([(240, 200)])
    cut = camera.look(230)
    assert cut.result.cells[0].record.cut_by_border
    assert cut.cells == (None,)
    assert camera.counted == 0
    assert camera.look(190).cells == (1,)
    # cut again: known, and without a vote
    tracked = camera.look(215)
    assert tracked.result.cells[0].record.cut_by_border
    assert (tracked.cells, tracked.votes, tracked.changed) == ((1,), (False,), ())


def test_votes_are_averaged_and_bounded() -> None:
    camera = Camera([(200, 200)])
    image = camera.result(0, 0).frame.image
    box = Box(160, 160, 240, 240)
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (MOST_VOTES + 3, 12)).astype(np.float32)
    for n, row in enumerate(logits):
        frame = Frame(n, n / 10, image, "slide")
        tracked = camera.show(FrameResult(frame, (found(box, image, list(row)),)))
        voted = n < MOST_VOTES
        assert tracked.votes == (voted,)
        assert tracked.cells == (1,)
        if not voted:
            assert tracked.changed == ()
            continue
        (decision,) = tracked.changed
        mean = logits[: n + 1].astype(np.float64).mean(axis=0)
        assert decision.logits == pytest.approx(mean, abs=1e-5)
        odds = np.exp(mean) / np.exp(mean).sum()
        assert decision.code == CODES[int(odds.argmax())]
        assert decision.probability == pytest.approx(odds.max(), abs=1e-5)
        assert decision.votes == n + 1


def test_reasons_come_from_the_mean_and_gated_sightings_do_not_vote() -> None:
    def decide(logits: np.ndarray) -> tuple[str, ...]:
        return ("low confidence",) if logits.max() < 0.8 else ()

    tracker = Tracker(Rule(CODES, 1.0, decide))
    camera = Camera([(200, 200)])
    camera.tracker = tracker
    image = camera.result(0, 0).frame.image
    box = Box(160, 160, 240, 240)

    def show(cell: CellResult) -> Differential:
        camera.show(FrameResult(Frame(0, 0.0, image, "slide"), (cell,)))
        return camera.count.differential()

    assert show(found(box, image, gate="out of focus")).unclassified == 1
    got = show(found(box, image, list(np.eye(12)[LY])))
    assert (got.counted, got.unclassified) == ({"LY": 1}, 0)
    got = show(found(box, image, gate="out of focus"))
    assert got.counted == {"LY": 1}
    # mean of LY and SNE: 0.5 each
    got = show(found(box, image, list(np.eye(12)[SNE] * 1.1)))
    assert (got.counted, got.flagged) == ({}, {"SNE": 1})


@pytest.mark.parametrize(
    ("side", "code"), [(30, "PLT"), (50, "ERB"), (76, "SNE"), (90, "LY")]
)
def test_a_cells_size_takes_classes_out(side: int, code: str) -> None:
    """A red cell is 60 pixels here."""
    camera = Camera([(200, 200)])
    image = camera.result(0, 0).frame.image
    logits = np.zeros(12)
    for name, likely in (("LY", 3), ("ERB", 4), ("PLT", 5), ("SNE", 6)):
        logits[CODES.index(name)] = likely
    if side == 50:  # of the two that are possible
        logits[CODES.index("PLT")] = 0
    if side == 90:  # a platelet, but for its size
        logits[[CODES.index("SNE"), CODES.index("ERB")]] = 0
    cell = found(Box(160, 160, 160 + side, 190), image, list(logits))
    tracked = camera.show(FrameResult(Frame(0, 0.0, image, "slide"), (cell,)))
    assert tracked.changed[0].code == code
    assert tracked.changed[0].reasons == ()


def test_a_part_of_a_known_cell_is_no_new_one() -> None:
    camera = Camera([(200, 200)])
    image = camera.result(0, 0).frame.image
    whole = found(Box(150, 150, 250, 250), image)
    parts = [
        found(Box(150, 150, 195, 250), image),
        found(Box(205, 150, 250, 250), image),
    ]
    both = found(Box(150, 150, 380, 250), image)

    def show(*cells: CellResult) -> tuple[int | None, ...]:
        return camera.show(FrameResult(Frame(0, 0.0, image, "s"), cells)).cells

    assert show(whole) == (1,)
    assert sorted(show(*parts), key=str) == [1, None]
    assert show(both) == (None,)
    assert show(whole, found(Box(251, 150, 350, 250), image)) == (1, 2)


def test_pictures_of_different_slides_have_nothing_in_common() -> None:
    tracker = Tracker(Rule(CODES))
    numbers: list[int | None] = []
    for n, path in enumerate(sorted((SAMPLES / "frames").glob("*.jpg"))):
        image = read_image(path)
        cells = (found(Box(100, 100, 180, 180), image),)
        frame = Frame(n, None, image, path.name)
        numbers += tracker.update(FrameResult(frame, cells)).cells
    assert numbers == list(range(1, len(numbers) + 1))


def test_the_map_is_bounded(camera: Camera) -> None:
    camera.tracker = Tracker(Rule(CODES), most_fields=3)
    for x in range(0, 1400, 100):
        camera.look(x)
    assert camera.counted == camera.whole_at(*range(0, 1400, 100))


def test_empty_frames_are_followed(camera: Camera) -> None:
    """Fields without a cell link those with one."""
    camera.look(0)
    known = camera.counted
    for x in range(40, 1400, 40):
        camera.tracker.update(replace(camera.result(x, 40), cells=()))
    for x in range(1400, 0, -40):
        camera.tracker.update(replace(camera.result(x, 40), cells=()))
    assert camera.look(0).cells == tuple(range(1, known + 1))


def samples() -> Iterator[tuple[str, Bgr]]:
    for path in sorted((SAMPLES / "cells").glob("*.jpg")):
        yield path.stem.split("_")[0], read_image(path)


def test_a_pan_over_labelled_cells_counts_each_once() -> None:
    """Rows of a mosaic, a rest, a jump back, blur, a revisit, a jump to the end."""
    cells = list(samples())
    slide, labels = mosaic(cells)
    classifier = Classifier(bundled_model())
    counted = count_cells(slide, classifier, step=60)
    result = score(labels, counted, classify_alone(cells, classifier))
    assert result.labelled == 24
    assert result.counted_once == 24
    assert result.counted_twice == 0
    assert result.missed == 0
    assert result.unlabelled_twice == 0
    # Two platelets and a giant one that the data set doesn't label lie beside cells.
    assert result.unlabelled <= 3
    # The classifier by itself, on the same cells.
    assert result.correct >= result.correct_alone - 2
    truth = Counter(one.code for one in labels)
    got = counted.differential.counted
    error = sum(abs(got.get(code, 0) - truth[code]) for code in CODES)
    wrong = result.labelled - result.correct
    assert error <= 2 * wrong + result.unlabelled + result.to_review
