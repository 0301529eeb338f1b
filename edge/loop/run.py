"""A run from its settings: opens all parts, ties them to the loop, writes the results.

The command line, the benchmarks and the API all run the loop from here.
"""

import json
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import cv2

from edgecell.edge.analyse.pipeline import FrameAnalyser
from edgecell.edge.count.differential import Differential
from edgecell.edge.count.microscopes import MicroscopeGate
from edgecell.edge.count.scope import Scope, scope_for
from edgecell.edge.count.tracking import TrackedFrame, Tracker
from edgecell.edge.count.votes import Rule
from edgecell.edge.loop.config import LoopConfig
from edgecell.edge.loop.run_loop import (
    NEW_SLIDE,
    STOPPED,
    Controls,
    Limits,
    Loop,
    Tally,
)
from edgecell.edge.record.recorder import Recorder
from edgecell.edge.record.store import Session, Store, default_folder
from edgecell.edge.show.film import Film
from edgecell.edge.show.health import Health, Monitor
from edgecell.edge.show.overlay import annotate
from edgecell.edge.sources.address import open_source
from edgecell.edge.sources.base import FrameSource
from edgecell.edge.sources.capture import Capture
from edgecell.edge.sources.secrets import public_address
from edgecell.errors import OutputError
from edgecell.files import check_kind, check_writable, write_atomically
from edgecell.image.preprocess import Image
from edgecell.model.classifier import Classifier


class Observer:
    """Follows a run; override the methods for what you want to hear of."""

    def begun(self, run: "Run") -> None:
        """A session begins; ``run.out`` is its folder. Called on the loop's thread."""

    def turn(self, tracked: TrackedFrame | None) -> None:
        """The loop went round: several times a second, on the loop's thread.

        Args:
            tracked: the frame that is done; None if there was none.
        """

    def health(self, health: Health) -> None:
        """Once a second and once at the end, on a thread of its own."""


@dataclass(frozen=True)
class SessionResult:
    """The result of one session of a run.

    Attributes:
        out: its folder.
        tally: figures of the loop.
        differential: its cells, each once.
        health: at the end.
        recorded: frames written.
        pictures: annotated frames written.
        error: why something could not be written; None if everything was.
        microscope: which one the cells come from, in one line.
    """

    out: Path
    tally: Tally
    differential: Differential
    health: Health
    recorded: int
    pictures: int
    error: OutputError | None
    microscope: str

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "out": str(self.out),
            "pictures": self.pictures,
            "microscope": self.microscope,
            **self.tally.to_dict(),
            "differential": self.differential.to_dict(),
            "health": self.health.to_dict(),
        }


class Run:
    """A loop with all its parts, and the controls for whoever watches it.

    `go` runs it on the calling thread. Everything else may be called on any thread
    while it runs. One session is one slide: `new_slide` ends a session and begins
    another one, with the source and the model still open.

    Attributes:
        config: the settings.
        source: where the frames come from.
        classifier: the opened model.
        scope: what the model was shown to do on this microscope; None for nothing.
        out: folder of the present session.
    """

    def __init__(
        self,
        config: LoopConfig,
        source: FrameSource,
        classifier: Classifier,
        film: Film | None,
        scope: Scope | None = None,
    ) -> None:
        """Connects the parts; `open_run` opens them. `go` makes the first folder."""
        self.config, self.source, self.classifier = config, source, classifier
        self.out = config.out or default_folder(source.name, datetime.now())
        self._film = film
        self.scope = scope
        self._analyser = FrameAnalyser(classifier, config.red_cell_px)
        self._controls = Controls()
        self._loop: Loop | None = None
        self._slides = 0

    @property
    def endless(self) -> bool:
        """Whether only a limit or `stop` ends the run."""
        return self.source.live or self.config.watch

    def go(self, observers: Sequence[Observer] = ()) -> list[SessionResult]:
        """Runs until the source ends, a limit is reached, or `stop` is called.

        Args:
            observers: who follows the run.

        Returns:
            The sessions, one a slide.

        Raises:
            SourceError: the source can't be opened, or one that isn't live fails.
            InputError: likewise.
            OutputError: the folder can't be made.
        """
        results: list[SessionResult] = []
        threads = self.config.network_threads
        with _opencv_threads(threads), Capture(self.source) as reader:
            while True:
                results.append(self._session(reader, observers))
                if results[-1].tally.ended != NEW_SLIDE:
                    return results
                self._next_slide()

    def _session(self, reader: Capture, observers: Sequence[Observer]) -> SessionResult:
        config, record, scope = self.config, self.classifier.record, self.scope
        settings = config.recorded() | {
            "scope": scope.recorded() if scope else None,
            "finder": self._analyser.finder_sha256,
            "id": secrets.token_hex(8),
        }
        session = Session(public_address(config.source), record, settings)
        self._slides += 1
        store = Store(
            self.out,
            session,
            config.keep_bytes,
            config.policy,
            numbered=config.out is None or self._slides > 1,
        )
        with Recorder(
            store, self._film, not self.source.live, self.config.maps
        ) as recorder:
            self.out = store.folder
            loop = Loop(
                reader,
                self._analyser,
                Tracker(Rule.of_model(record)),
                recorder,
                Limits(config.max_frames, config.target, config.goals),
                self._controls,
                MicroscopeGate(record.microscopes, scope),
            )
            self._loop = loop
            for observer in observers:
                observer.begun(self)

            def tell(health: Health) -> None:
                for observer in observers:
                    observer.health(health)

            with Monitor(loop.health, config.health_file, tell) as monitor:

                def turn(tracked: TrackedFrame | None) -> None:
                    monitor.turn()
                    for observer in observers:
                        observer.turn(tracked)

                loop.run(turn)
                hurried = loop.tally.ended == STOPPED
                recorder.end(loop.tally.ended, hurried, loop.settle())
            health = loop.health()
        error = recorder.error or recorder.picture_error
        try:
            write_differential(self.out, loop.differential)
        except OutputError as e:  # whoever asked for the run gets the figures first
            error = error or e
        return SessionResult(
            self.out,
            loop.tally,
            loop.differential,
            health,
            recorder.frames,
            recorder.pictures,
            error,
            loop.microscope,
        )

    def _next_slide(self) -> None:
        """Names the files of another session, and lets it begin."""
        film, number = self.config.video, self._slides + 1
        self.out = self.config.out or default_folder(self.source.name, datetime.now())
        self._film = None if film is None else Film(_numbered(film, number))
        self._controls.new_slide()

    def stop(self) -> None:
        """Ends the run after the frame in hand."""
        self._controls.end(STOPPED)

    def new_slide(self) -> None:
        """Ends the session after the frame in hand, and begins another one."""
        self._controls.end(NEW_SLIDE)

    def pause(self) -> None:
        """Takes no more frames until `resume` is called."""
        self._controls.paused = True

    def resume(self) -> None:
        """Continues after `pause`."""
        self._controls.paused = False

    @property
    def paused(self) -> bool:
        """Whether no frame is taken for now."""
        return self._controls.paused

    @property
    def newest(self) -> TrackedFrame | None:
        """The last frame that is done; None before the first one."""
        return self._loop.newest if self._loop is not None else None

    def picture(self) -> Image | None:
        """The newest frame, annotated, uint8 BGR (H + strip, W, 3); None likewise.

        It is drawn on the calling thread: ask for it no more often than it is shown.
        """
        tracked = self.newest
        if tracked is None:
            return None
        return annotate(
            tracked.result, tracked.cells, tracked.to_review, self.config.maps
        )

    @property
    def differential(self) -> Differential:
        """The cells of the present session so far, each once."""
        return self._loop.differential if self._loop else Differential({}, {})

    def health(self) -> Health | None:
        """Health of the loop now; None before it runs."""
        return self._loop.health() if self._loop is not None else None


@contextmanager
def _opencv_threads(threads: int) -> Iterator[None]:
    """Limits the number of OpenCV's threads.

    The loop has threads of its own. OpenCV's threads wait for work by spinning, which
    costs more processor time than they save on pictures as small as those that are
    searched.
    """
    before = cv2.getNumThreads()
    cv2.setNumThreads(threads)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def open_run(
    config: LoopConfig,
    source: FrameSource | None = None,
    classifier: Classifier | None = None,
    film: Film | None = None,
) -> Run:
    """Opens what a run needs, and checks that its results can be written.

    Args:
        config: the settings.
        source: frames from elsewhere than ``config.source``, which then only names
            them in the record.
        classifier: a model that is open already, instead of ``config.model``.
        film: where the annotated frames go, instead of ``config.video``.

    Raises:
        EdgecellError: the source or model can't be opened, or a file not written.
    """
    source = source or open_source(config.source, config.watch)
    if config.video is not None:
        film = Film(config.video)
        check_writable(config.video)
    if config.health_file is not None:
        check_kind(config.health_file, "JSON")
        check_writable(config.health_file)
    classifier = classifier or Classifier(
        config.model, config.network_threads, config.runtime
    )
    scope = None
    if config.scope is not None:
        scope = scope_for(config.scope, classifier.record)
    return Run(config, source, classifier, film, scope)


def write_differential(folder: Path, differential: Differential) -> None:
    """Writes differential.json and differential.csv.

    Raises:
        OutputError: the disk doesn't take them.
    """
    text = json.dumps(differential.to_dict(), indent=1)
    write_atomically(folder / "differential.json", text)
    write_atomically(folder / "differential.csv", differential.to_csv())


def _numbered(path: Path, number: int) -> Path:
    """'film-2.avi': the first from that number on that doesn't exist."""
    while True:
        found = path.with_name(f"{path.stem}-{number}{path.suffix}")
        if not found.exists():
            return found
        number += 1
