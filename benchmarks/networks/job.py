"""What jobs on a GPU reached, as `edgecell evaluate` reports it.

    python -m edgecell.benchmarks job runs/many runs/no-raabin --out-dir results/

A job writes the logits of its test cells, so that neither the network nor the images
are needed here.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import click
import numpy as np
import numpy.typing as npt

from edgecell.benchmarks.evaluate_command import table
from edgecell.benchmarks.evaluation import Evaluation, figures
from edgecell.benchmarks.networks.trained import Trained
from edgecell.benchmarks.tables import aligned
from edgecell.classes import CODES
from edgecell.cli import OutputFolder, PoliteCommand, by_name, claim
from edgecell.errors import InputError
from edgecell.files import csv_text, write_atomically
from edgecell.model.probabilities import softmax
from edgecell.train.job.files import HISTORY, RESULT
from edgecell.train.job.finish import read_summary
from edgecell.train.job.fold import Fold

LEFT_OUT = "left-out.csv"
_COLUMNS = (
    *("left_out", "source", "network", "unseen", "start", "views", "seconds", "device"),
    *("cells", "accuracy", "grouped_accuracy", "learned_cells", "learned_accuracy"),
)
_LEAST_LEARNED = 10
"""Test cells of the other sources from which on a class counts as learned."""


@dataclass(frozen=True, eq=False)
class Judged:
    """A network of a job, and its answers to the test cells.

    Attributes:
        network: its name.
        trained: how.
        left_out: sources that it was not trained on.
        unseen: whether it was trained for such, with `--unseen`.
        fold: the part of a source that it was tested by; None without.
        settings: all others of the job.
        logits: float32 (N, C).
        sets: bool (N, C), the classes that each cell may belong to.
        sources: N names.
    """

    network: str
    trained: Trained
    left_out: tuple[str, ...]
    unseen: bool
    fold: Fold | None
    settings: Mapping[str, Any]
    logits: npt.NDArray[np.float32]
    sets: npt.NDArray[np.bool_]
    sources: npt.NDArray[np.str_]

    def learned(self, source: str) -> Evaluation | None:
        """Figures on a source's cells of classes that the other sources taught it.

        None if there are no such cells.
        """
        others = ~np.isin(self.sources, [source, *self.left_out])
        codes = self.sets[others].sum(0) >= _LEAST_LEARNED
        own = (self.sources == source) & (self.sets & codes).any(1)
        return self._figures(own) if own.any() else None

    def of(self, source: str) -> "Judged":
        """The same with the test cells of one source alone."""
        own = self.sources == source
        return replace(
            self,
            logits=self.logits[own],
            sets=self.sets[own],
            sources=self.sources[own],
        )

    def figures(self, sources: Collection[str]) -> Evaluation:
        """Figures on the test cells of some sources; there must be some.

        The probabilities are those of the logits as they are, without a temperature.
        """
        return self._figures(np.isin(self.sources, list(sources)))

    def _figures(self, own: npt.NDArray[np.bool_]) -> Evaluation:
        return figures(
            self.sets[own],
            softmax(self.logits[own], 1.0),
            self.sources[own].tolist(),
            CODES,
        )


def read_job(run: Path, starts: Mapping[str, str]) -> list[Judged]:
    """Reads a job's network and, if there is one, the teacher that learned beside it.

    Args:
        run: the job's folder.
        starts: first weights in words, by the name of the folder or of the teacher,
            where the file's name that the job recorded does not tell enough.

    Raises:
        InputError: the folder holds no finished job, or the job had no test cells.
    """
    summary = read_summary(run)
    try:
        config = summary["config"]
        names = {"": config["model"]}
        if config["teacher"]:
            names["teacher_"] = config["teacher"]
        left_out = tuple(config["exclude"])
        unseen = config.get("style", 0.0) > 0
        fold = Fold.parse(config["fold"]) if config.get("fold") else None
        if fold:  # its teacher is not what is cross-validated
            names.pop("teacher_", None)
        settings = {k: v for k, v in config.items() if k != "fold"}
        with np.load(run / RESULT, allow_pickle=False) as result:
            sets, sources = result["test_sets"], result["test_sources"]
            logits = {kind: result[f"test_{kind}logits"] for kind in names}
        facts = {
            "sources": summary["trained_on"],
            "views": summary["cells"],
            "seconds": summary["seconds"],
            "device": summary["device"],
        }
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as e:
        raise InputError(f"{run} holds no finished job ({e})") from e
    if not len(sets):
        raise InputError(f"{run} has no test cells: its packs held none")
    shapes = {sets.shape, *(array.shape for array in logits.values())}
    if shapes != {(len(sources), len(CODES))}:
        raise InputError(f"{run / RESULT} is damaged: its arrays differ in size")
    return [
        Judged(
            network=name,
            trained=Trained(
                **facts,
                start=starts.get(
                    name if kind else run.name,
                    "not recorded" if kind else config.get("first", "not recorded"),
                ),
            ),
            left_out=left_out,
            unseen=unseen and not kind,
            fold=fold,
            settings=settings,
            logits=logits[kind],
            sets=sets,
            sources=sources,
        )
        for kind, name in names.items()
    ]


def left_out_rows(judged: Sequence[Judged]) -> list[tuple[str, ...]]:
    """Accuracy on sources that were left out, and of the same networks with them.

    Args:
        judged: networks of jobs with and without all sources.

    Returns:
        Rows of `_COLUMNS`: one for each network and source that it was not trained on,
        and for each source of a network that was trained on all; none if no network
        had a source left out.
    """
    names = {j.network for j in judged if j.left_out}
    rows = []
    for j in judged:
        present = set(j.sources.tolist())
        for source in sorted(present & set(j.left_out or present)):
            if j.network not in names:
                continue
            found, learned = j.figures([source]), j.learned(source)
            rows.append(
                (
                    "+".join(j.left_out) or "none",
                    source,
                    j.network,
                    "yes" if j.unseen else "no",
                    j.trained.start,
                    str(j.trained.views),
                    f"{j.trained.seconds:.0f}",
                    j.trained.device,
                    str(found.n),
                    f"{found.accuracy:.4f}",
                    f"{found.grouped_accuracy:.4f}",
                    str(learned.n if learned else 0),
                    f"{learned.grouped_accuracy:.4f}" if learned else "",
                )
            )
    return sorted(rows, key=lambda row: (row[1], row[0] != "none", *row[:4]))


def pooled(judged: Sequence[Judged]) -> list[Judged]:
    """The folds of each network and source as one, judged by every cell of the source.

    Their views and seconds are added up; the images in training are the first part's.

    Raises:
        InputError: a fold is missing or there twice, has no cells, or was trained with
            other settings.
    """
    groups: dict[tuple[str, str, int], list[Judged]] = {}
    for j in judged:
        if j.fold:
            key = j.network, j.fold.source, j.fold.parts
            groups.setdefault(key, []).append(j)
    whole = []
    for (network, source, parts), folds in groups.items():
        folds.sort(key=lambda j: j.fold.part if j.fold else 0)
        found = [j.fold.part for j in folds if j.fold]
        if found != list(range(1, parts + 1)):
            raise InputError(
                f"the runs of {network} hold the parts "
                f"{', '.join(map(str, found))} of {parts} of {source}, not each once"
            )
        if any(j.settings != folds[0].settings for j in folds):
            raise InputError(f"the folds of {source} were trained in different ways")
        own = [j.of(source) for j in folds]
        if not all(len(j.sources) for j in own):
            raise InputError(f"a fold of {source} has no test cells")
        trained = folds[0].trained
        whole.append(
            replace(
                own[0],
                trained=replace(
                    trained,
                    views=sum(j.trained.views for j in own),
                    seconds=sum(j.trained.seconds for j in own),
                ),
                logits=np.concatenate([j.logits for j in own]),
                sets=np.concatenate([j.sets for j in own]),
                sources=np.concatenate([j.sources for j in own]),
            )
        )
    return whole


@click.command("job", cls=PoliteCommand, no_args_is_help=True)
@click.argument(
    "runs",
    nargs=-1,
    required=True,
    metavar="RUN...",
    type=click.Path(path_type=Path, file_okay=False),
)
@click.option(
    "--out-dir",
    "folder",
    type=OutputFolder(),
    required=True,
    help="Folder for the figures and curves.",
)
@click.option(
    "--source",
    "sources",
    multiple=True,
    default=("pbc", "munich"),
    show_default=True,
    help="Source of the test cells; may be repeated.",
)
@click.option(
    "--start",
    "starts",
    multiple=True,
    callback=by_name(click.STRING),
    metavar="NAME=TEXT",
    help="What the first weights of the run in folder NAME were, or those of the "
    "teacher NAME; may be repeated. A job only records the name of their file, and "
    "nothing of a teacher's.",
)
def command(
    runs: tuple[Path, ...],
    folder: Path,
    sources: tuple[str, ...],
    starts: dict[str, str],
) -> None:
    """Report the test figures of finished jobs, as 'edgecell evaluate' does.

    RUN are folders of 'python -m edgecell.train.job'. Writes NETWORK-float32-test.json
    and NETWORK-history.csv, which 'edgecell bench --paper' shows, of each network and
    teacher that was trained on all sources. Runs with sources left out go to
    left-out.csv, with their accuracy on just those; runs with --fold, all of a source,
    to NETWORK-SOURCE-N-folds.json.
    """
    judged: list[Judged] = []
    histories: dict[str, str] = {}
    known: set[str] = set()
    for run in runs:
        found = read_job(run, starts)
        judged += found
        known |= {run.name, *(j.network for j in found[1:])}
        if not (found[0].left_out or found[0].fold):
            histories[found[0].network] = _history(run)
    if unknown := set(starts) - known:
        raise InputError(
            f"--start names {min(unknown)}, which is neither a run nor a teacher here"
        )
    results = {}
    for j in judged:
        if j.left_out or j.fold:
            continue
        if j.network in results:
            raise InputError(f"two of the runs trained {j.network}; give one of them")
        if not np.isin(j.sources, sources).any():
            there = ", ".join(sorted(set(j.sources.tolist())))
            raise InputError(
                f"no test cells are of {', '.join(sources)}; there are those of {there}"
            )
        results[j.network] = (j.trained, j.figures(sources))
    whole = pooled(judged)
    for network, (trained, evaluation) in results.items():
        content = evaluation.to_dict() | {"training": trained.to_dict()}
        _write(folder / f"{network}-float32-test.json", _json(content))
        click.echo(f"{network}, float32, {described(trained)}\n{table(evaluation)}\n")
    for j in whole:
        assert j.fold
        source = j.fold.source
        evaluation = j.figures([source])
        name = f"{j.network}-{source}-{j.fold.parts}-folds.json"
        _write(
            folder / name,
            _json(evaluation.to_dict() | {"training": j.trained.to_dict()}),
        )
        click.echo(
            f"{j.network}, all of {source} in {j.fold.parts} folds; all together: "
            f"{described(j.trained)}\n{table(evaluation)}\n"
        )
    for network, text in histories.items():
        _write(folder / f"{network}-history.csv", text)
    if rows := left_out_rows([j for j in judged if not j.fold]):
        _write(folder / LEFT_OUT, csv_text(_COLUMNS, rows))
        click.echo(aligned([_COLUMNS, *rows]))


def described(trained: Trained) -> str:
    """One line on how a network was trained."""
    return (
        f"{trained.views:,} views of {', '.join(trained.sources)} in {trained.time} "
        f"on {trained.device}; first weights: {trained.start}"
    )


def _history(run: Path) -> str:
    try:
        return (run / HISTORY).read_text(encoding="utf-8")
    except (OSError, ValueError) as e:
        raise InputError(f"{run} has no {HISTORY} ({e})") from e


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=1) + "\n"


def _write(path: Path, text: str) -> None:
    """Writes a result, over none of another kind."""
    claim(path, "CSV" if path.suffix == ".csv" else "JSON")
    write_atomically(path, text)


if __name__ == "__main__":
    command()
