"""``edgecell bench``: parameters, FLOPs, size, latency and memory against a budget."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgecell.benchmarks.tables import aligned
from edgecell.cli import OutputFile, OutputFolder, json_option, refuse, report
from edgecell.model import BUNDLED
from edgecell.optional import require

if TYPE_CHECKING:
    from edgecell.benchmarks.budgets import BenchmarkRow
    from edgecell.benchmarks.cost import Cost

MAX_THREADS = 64
_OPTIONS = {
    "": {"model", "threads", "runs", "budgets_file", "layers"},
    "loop": {"model", "threads", "frames", "viewers"},
    "stages": {"model", "frames", "size"},
    "peers": {"model", "runs"},
    "board": {"emulator"},
    "submit": {"model", "runs", "frames"},
    "paper": {"plot"},
}
"""Which options go with which measurement."""

_NAMES = {
    "parameters": "parameters",
    "flops": "FLOPs (2 x MACs)",
    "file_bytes": "file, bytes",
    "latency_ms": "latency, ms",
    "peak_bytes": "peak memory, bytes",
}


def _thread_counts(
    ctx: click.Context, param: click.Parameter, value: str
) -> tuple[int, ...]:
    """Parses '1,2' to (1, 2), each number once."""
    parts = [part.strip() for part in value.split(",")]
    if not all(p.isdecimal() and 0 < int(p) <= MAX_THREADS for p in parts):
        raise click.BadParameter(
            f"'{value}' is not a list like 1,2 of numbers from 1 to {MAX_THREADS}"
        )
    return tuple(dict.fromkeys(int(p) for p in parts))


def _frame_size(
    ctx: click.Context, param: click.Parameter, value: str
) -> tuple[int, int]:
    """Parses '640x480' to (640, 480)."""
    width, _, height = value.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise click.BadParameter(f"'{value}' is not a size like 640x480")
    size = int(width), int(height)
    if not (240 <= size[1] <= 4320 and 4 / 3 <= size[0] / size[1] <= 2):
        raise click.BadParameter(
            f"'{value}' is not a size of camera frames; give a height of 240 to 4320 "
            "pixels, and a width of 4/3 to 2 times the height"
        )
    return size


def _mode(asked: Mapping[str, bool]) -> str:
    """What is to be measured: the name of the one flag that was given, or ''.

    Raises:
        click.UsageError: there are two, or an option of another one.
    """
    given = [name for name, asks in asked.items() if asks]
    if len(given) > 1:
        raise click.UsageError(
            f"--{given[0]} and --{given[1]} are two different "
            "measurements; give one of them"
        )
    mode = given[0] if given else ""
    others = set().union(*_OPTIONS.values()) - _OPTIONS[mode]
    whom = f"--{mode}" if mode else "a model's cost"
    refuse(others, f"is not for {whom}")
    return mode


@click.command("bench", short_help="Measure a model's speed, memory and size.")
@click.argument("model", default=BUNDLED)
@click.option(
    "--threads",
    callback=_thread_counts,
    metavar="N,N...",
    default="1,2",
    show_default=True,
    help="Numbers of threads to measure with.",
)
@click.option(
    "--runs",
    type=click.IntRange(1, 100_000),
    default=100,
    show_default=True,
    help="Timed inferences for each number of threads.",
)
@click.option(
    "--budgets",
    "budgets_file",
    type=click.Path(path_type=Path),
    help="TOML file with limits, instead of the built-in one.",
)
@click.option("--layers", is_flag=True, help="Also list each layer that has weights.")
@click.option(
    "--loop", is_flag=True, help="Measure the whole camera loop instead of the model."
)
@click.option(
    "--stages",
    is_flag=True,
    help="Show where the time of a frame goes in the loop, stage by stage.",
)
@click.option(
    "--peers",
    multiple=True,
    metavar="FILE",
    help="Also time another file of the same network, .onnx or .tflite, on every "
    "installed runtime. May be given more than once.",
)
@click.option(
    "--board",
    type=click.Choice(("pi5", "pi4", "pi3", "orin-nano")),
    help="Estimate the time on a board from instructions counted under emulation.",
)
@click.option(
    "--emulator",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="With --board: count the instructions again, with the emulator that "
    "scripts/emulator made in FOLDER.",
)
@click.option(
    "--submit",
    type=OutputFile("JSON"),
    metavar="FILE",
    help="Measure this machine and write FILE, which you can send to the project.",
)
@click.option(
    "--frames",
    type=click.IntRange(30, 10_000_000),
    default=900,
    show_default=True,
    help="With --loop, --stages or --submit: number of frames that the camera sends.",
)
@click.option(
    "--size",
    callback=_frame_size,
    metavar="WxH",
    default="640x480",
    show_default=True,
    help="With --stages: width and height of the frames.",
)
@click.option(
    "--viewers",
    type=click.IntRange(0, 100),
    help="With --loop: also serve the live page to this number of viewers.",
)
@click.option(
    "--paper",
    is_flag=True,
    help="Print the paper's comparison of networks, from stored results.",
)
@click.option(
    "--plot",
    type=OutputFolder(),
    metavar="FOLDER",
    help="With --paper: draw learning curves and confusion matrices into FOLDER.",
)
@json_option
def command(
    model: str,
    threads: tuple[int, ...],
    runs: int,
    budgets_file: Path | None,
    layers: bool,
    loop: bool,
    stages: bool,
    peers: tuple[str, ...],
    board: str | None,
    emulator: Path | None,
    submit: Path | None,
    frames: int,
    size: tuple[int, int],
    viewers: int | None,
    paper: bool,
    plot: Path | None,
    json_file: str | None,
) -> None:
    """Measure a model's speed, memory and size.

    MODEL is a .tflite file that 'edgecell convert' wrote, or 'bundled'. Parameters and
    FLOPs are counted in the file. Latency is the time for one cell's image on this
    machine; memory is that of a process that only classifies. The exit status is 1 if
    a figure exceeds the network's budget.

    --loop measures the whole loop of 'edgecell run' with a simulated camera that sends
    30 frames a second with five cells each: frames a second, their age, memory.
    --stages feeds the same frames as fast as they are taken, with one thread for the
    network, and shows the processor time of each stage.

    --peers times MODEL and other files of the same network in turns on all runtimes.
    --board measures nothing: it estimates what a board may take, and says how sure that
    is. --submit measures a board that you have.

    --paper measures nothing. It prints the paper's tables of networks beside the
    stored results of those that were trained and evaluated here.
    """
    from dataclasses import asdict

    from edgecell.benchmarks.budgets import (
        Budget,
        breaches,
        bundled_budgets,
        measure,
        read_budgets,
    )
    from edgecell.errors import EdgecellError, InputError
    from edgecell.model.modelfile import resolve

    flags = {"loop": loop, "stages": stages, "peers": bool(peers), "paper": paper}
    mode = _mode(flags | {"board": bool(board), "submit": submit is not None})
    if mode == "paper":
        _paper(plot, json_file)
        return
    if board is not None:
        _board(board, emulator, json_file)
        return
    path = resolve(model)
    if submit is not None:
        _submit(path, runs, frames, submit, json_file)
        return
    if mode == "stages":
        from edgecell.benchmarks.speed.stages import measure_stages, stages_text

        cost = measure_stages(path, frames, size)
        report(stages_text(cost), cost.to_dict(), json_file)
        return
    if mode == "peers":
        from edgecell.benchmarks.cost import model_cost
        from edgecell.benchmarks.speed.runtimes import measure_peers, peers_text
        from edgecell.model.modelfile import read_tflite

        flops = model_cost(read_tflite(path)[0]).flops
        beside = measure_peers([model, *peers], runs, flops)
        report(peers_text(beside), beside.to_dict(), json_file)
        return
    if mode == "loop":
        from edgecell.benchmarks.speed.loop import loop_text, measure_loop

        if viewers is not None:
            require("uvicorn", "page")
        result = measure_loop(path, max(threads), frames, viewers)
        report(loop_text(result), result.to_dict(), json_file)
        return
    budgets = read_budgets(budgets_file or bundled_budgets())
    row = measure(path, threads, runs)
    if budgets_file and row.network not in budgets:
        raise InputError(
            f"{budgets_file} has no table for '{row.network}', the network of {model}"
        )
    budget = budgets.get(row.network, Budget())
    limits = budget.limits(row.scheme, row.machine.model)
    exceeded = breaches(row.figures(), limits)
    data = row.to_dict() | {
        "limits": limits,
        "breaches": [asdict(breach) for breach in exceeded],
    }
    text = _text(row, limits)
    if layers:
        data["layers"] = [asdict(layer) for layer in row.cost.layers]
        text += "\n\n" + _layers_text(row.cost)
    report(text, data, json_file)
    if exceeded:
        found = "; ".join(
            f"{b.name} {_number(b.measured)}, limit {_number(b.limit)}"
            for b in exceeded
        )
        raise EdgecellError(f"{model} exceeds the budget of '{row.network}': {found}")


def _board(name: str, emulator: Path | None, json_file: str | None) -> None:
    from edgecell.benchmarks.speed import boards

    board = boards.BOARDS[name]
    counts = (
        boards.stored_counts(board.cpu)
        if emulator is None
        else boards.count(board.cpu, emulator)
    )
    text, data = boards.board_text(board, counts), boards.board_data(board, counts)
    report(text, data, json_file)


def _submit(
    path: Path, runs: int, frames: int, out: Path, json_file: str | None
) -> None:
    from edgecell.benchmarks.speed.submit import submission_text, write_submission

    found = write_submission(path, runs, frames, out)
    report(submission_text(found, out), found.to_dict(), json_file)


def _paper(plot: Path | None, json_file: str | None) -> None:
    from edgecell.benchmarks.networks.paper import compare, draw
    from edgecell.benchmarks.networks.paper_text import paper_text

    rows = compare()
    if plot:
        require("matplotlib", "evaluate")
        draw(rows, plot)
    report(paper_text(rows), {"networks": [row.to_dict() for row in rows]}, json_file)


def _number(value: float) -> str:
    """Whole numbers with separators, others with three decimals."""
    return f"{value:,.3f}" if value % 1 else f"{value:,.0f}"


def _text(row: "BenchmarkRow", limits: Mapping[str, float]) -> str:
    costs = [("", "measured", "limit")]
    for name, measured in row.figures().items():
        limit = _number(limits[name]) if name in limits else "-"
        costs.append((_NAMES[name], _number(measured), limit))
    times = [["one inference, ms", "median", "p95", "mean"]]
    for latency in row.latencies:
        threads = f"{latency.threads} thread" + "s" * (latency.threads > 1)
        for what, t in (
            ("network", latency.invoke),
            ("image to prediction", latency.classify),
            ("attributes' logits", latency.attributes),
        ):
            if t is None:
                continue
            numbers = [f"{x:.3f}" for x in (t.median_ms, t.p95_ms, t.mean_ms)]
            times.append([f"{threads}, {what}", *numbers])
    m = row.machine
    ram = f", {m.ram_bytes / 1e9:.1f} GB" if m.ram_bytes else ""
    lines = [
        f"{row.model}: {row.network} {row.scheme}, sha256 {row.model_sha256[:12]}",
        "",
        aligned(costs),
        "",
        aligned(times),
        "",
        f"runtime: {row.runtime}, numpy {m.numpy}",
        f"machine: {m.model}, {m.architecture}, {m.cores} cores{ram}",
        f"system: {m.system}, Python {m.python}",
    ]
    if row.memory:
        growth = _number(row.memory.growth_bytes)
        lines.append(
            f"memory: the runtime and the model take {growth} bytes of the peak"
        )
    uncounted = ", ".join(f"{n} {op}" for op, n in row.cost.uncounted.items())
    lines.append(f"not counted: {uncounted or 'nothing'}")
    if not limits:
        lines.append(f"no budget applies to '{row.network}'")
    return "\n".join(lines)


def _layers_text(cost: "Cost") -> str:
    rows = [("layer", "output", "MACs", "parameters")]
    for i, layer in enumerate(cost.layers):
        shape = "x".join(map(str, layer.output))
        macs, parameters = _number(layer.macs), _number(layer.parameters)
        rows.append((f"{i} {layer.op}", shape, macs, parameters))
    return aligned(rows)
