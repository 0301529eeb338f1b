"""What a model costs on this machine, and what its network may cost."""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib.resources import files
from pathlib import Path
from typing import Any

from edgecell.benchmarks.cost import Cost, model_cost
from edgecell.benchmarks.latency import (
    Latency,
    Machine,
    Memory,
    measure_latency,
    measure_memory,
    this_machine,
)
from edgecell.errors import InputError
from edgecell.files import read_bounded
from edgecell.model.modelfile import read_tflite
from edgecell.model.runtime import Runtime

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True)
class BenchmarkRow:
    """What one model costs on one machine.

    Attributes:
        model: the file's name.
        model_sha256: hash of its flatbuffer.
        network: name of the network.
        scheme: number format: 'int8', 'float32', ...
        file_bytes: size of the file, record included.
        cost: parameters and FLOPs.
        machine: where it was measured.
        runtime: what ran it.
        latencies: one for each number of threads; at least one.
        memory: peak memory; None where the system doesn't report it.
    """

    model: str
    model_sha256: str
    network: str
    scheme: str
    file_bytes: int
    cost: Cost
    machine: Machine
    runtime: Runtime
    latencies: tuple[Latency, ...]
    memory: Memory | None

    def figures(self) -> dict[str, float]:
        """The figures that a budget can limit, under the names of its limits."""
        found: dict[str, float] = {
            "parameters": self.cost.parameters,
            "flops": self.cost.flops,
            "file_bytes": self.file_bytes,
            "latency_ms": min(x.classify.median_ms for x in self.latencies),
        }
        if self.memory:
            found["peak_bytes"] = self.memory.peak_bytes
        return found

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready copy, without the list of layers."""
        row = asdict(self)
        row["cost"] = {
            "parameters": self.cost.parameters,
            "macs": self.cost.macs,
            "flops": self.cost.flops,
            "uncounted": self.cost.uncounted,
        }
        return row


def measure(path: Path, threads: Sequence[int], runs: int) -> BenchmarkRow:
    """Measures a model on this machine.

    Args:
        path: a ``.tflite`` that `edgecell convert` wrote.
        threads: numbers of threads to time it with; at least one.
        runs: timed inferences for each.

    Raises:
        ModelError: not a model of ours, or damaged.
        MissingPackageError: no runtime takes it, or the flatbuffer's reader is
            missing.
        EdgecellError: memory could not be measured.
    """
    flatbuffer, record = read_tflite(path)
    cost = model_cost(flatbuffer)
    latencies, runtimes = zip(
        *(measure_latency(path, n, runs) for n in threads), strict=True
    )
    return BenchmarkRow(
        model=path.name,
        model_sha256=record.model_sha256,
        network=str(record.network.get("name", "")),
        scheme=record.scheme,
        file_bytes=path.stat().st_size,
        cost=cost,
        machine=this_machine(),
        runtime=runtimes[0],
        latencies=latencies,
        memory=measure_memory(path),
    )


@dataclass(frozen=True)
class MachineBudget:
    """Limits that hold on one kind of machine.

    Attributes:
        latency_ms: median of one classification at the best number of threads.
        peak_bytes: peak resident memory of a process that only classifies.
    """

    latency_ms: float | None = None
    peak_bytes: float | None = None


@dataclass(frozen=True)
class Budget:
    """Limits of one network; those that are None, or not named, are open.

    Attributes:
        parameters: elements of weights and biases.
        flops: 2 x multiply-accumulates.
        file_bytes: by number format, the file's size.
        machines: by part of a machine's name, what holds there.
    """

    parameters: float | None = None
    flops: float | None = None
    file_bytes: Mapping[str, float] = field(default_factory=dict)
    machines: Mapping[str, MachineBudget] = field(default_factory=dict)

    def limits(self, scheme: str, machine: str) -> dict[str, float]:
        """The limits that apply to a model, by the names of its figures.

        Args:
            scheme: the model's number format, and how it was tuned.
            machine: name of the machine that it was measured on.
        """
        named = [
            ("parameters", self.parameters),
            ("flops", self.flops),
            # Of 'int8, qat' too: what came before does not make it larger.
            ("file_bytes", self.file_bytes.get(scheme.partition(",")[0])),
        ]
        for name, budget in self.machines.items():
            if name.casefold() in machine.casefold():
                named += asdict(budget).items()
        found: dict[str, float] = {}
        for name, limit in named:
            if limit is not None:
                # Two names may fit one machine: the stricter limit holds.
                found[name] = min(limit, found.get(name, limit))
        return found


@dataclass(frozen=True)
class BudgetBreach:
    """A figure above its limit; both in the unit that the name ends with."""

    name: str
    measured: float
    limit: float


def breaches(
    figures: Mapping[str, float], limits: Mapping[str, float]
) -> tuple[BudgetBreach, ...]:
    """The figures that exceed their limit; one that equals it does not.

    Args:
        figures: `BenchmarkRow.figures`.
        limits: `Budget.limits`.
    """
    return tuple(
        BudgetBreach(name, figures[name], limit)
        for name, limit in limits.items()
        if name in figures and figures[name] > limit
    )


_LARGEST = 2**20


def bundled_budgets() -> Path:
    """Path of the budgets in the package."""
    return Path(str(files("edgecell.benchmarks"))) / "budgets.toml"


def read_budgets(path: Path) -> dict[str, Budget]:
    """Reads a file of budgets, written like ``budgets.toml``.

    Args:
        path: a TOML file with a table for each network.

    Returns:
        The budgets by the name of the network.

    Raises:
        InputError: unreadable, not TOML, an unknown key, or a limit that is not a
            positive number.
    """
    content = read_bounded(path, _LARGEST)
    try:
        tables = tomllib.loads(content.decode())
    except ValueError as e:  # not TOML, or not UTF-8
        raise InputError(f"{path} is not a TOML file ({e})") from e
    try:
        return {name: _budget(name, table) for name, table in tables.items()}
    except ValueError as e:
        raise InputError(f"{path}: {e}") from e


def _budget(where: str, value: Any) -> Budget:
    table = _table(where, value, Budget)
    file_bytes = _limits(f"{where}.file_bytes", table.pop("file_bytes", {}))
    machines = _table(f"{where}.machines", table.pop("machines", {}))
    return Budget(
        **_limits(where, table),
        file_bytes=file_bytes,
        machines={
            name: MachineBudget(
                **_limits(f"{where}.machines.{name}", machine, MachineBudget)
            )
            for name, machine in machines.items()
        },
    )


def _table(where: str, value: Any, record: type | None = None) -> dict[str, Any]:
    """Checks for a table, with the record's keys if there is one; a copy."""
    if not isinstance(value, dict):
        raise ValueError(f"'{where}' must be a table")
    known = [f.name for f in fields(record)] if record else list(value)
    if unknown := sorted(set(value) - set(known)):
        raise ValueError(
            f"'{where}' has an unknown key '{unknown[0]}'; the known keys are "
            f"{', '.join(known)}"
        )
    return dict(value)


def _limits(where: str, value: Any, record: type | None = None) -> dict[str, float]:
    """Checks for a table of positive numbers."""
    table = _table(where, value, record)
    for name, limit in table.items():
        # bool is an int to isinstance; nan and inf would never be exceeded.
        if type(limit) not in (int, float) or not 0 < limit < math.inf:
            raise ValueError(f"'{where}.{name}' must be a positive number, not {limit}")
    return table
