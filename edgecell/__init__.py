"""edgecell: train, quantise, run and explain GRsNet on edge devices.

For research use only; not a medical device.

    import edgecell

    model = edgecell.open_model("bundled")
    cell = model.classify("cell.jpg")  # a small field with one cell in its middle
    print(cell.code, cell.probability, cell.reasons)

    for found in model.find_cells("field.jpg").cells:  # a whole field
        print(found.record.box, found.record.top[0])

    run = edgecell.open_run(edgecell.LoopConfig("demo"))  # as `edgecell run`
    (session,) = run.go()
    print(session.differential.to_dict())

A wrong call raises an `EdgecellError` that says what to do. Nothing is imported until a
name is used.
"""

TYPE_CHECKING = False  # `typing` would take longer to import than all else here
if TYPE_CHECKING:
    from edgecell.api.functions import convert_model, open_session, open_source
    from edgecell.api.model import Model, open_model
    from edgecell.edge.loop.config import LoopConfig
    from edgecell.edge.loop.run import Observer, open_run
    from edgecell.errors import EdgecellError

__all__ = [
    "RESEARCH_USE",
    "EdgecellError",
    "LoopConfig",
    "Model",
    "Observer",
    "__version__",
    "convert_model",
    "open_model",
    "open_run",
    "open_session",
    "open_source",
]

__version__ = "0.1.0"
RESEARCH_USE = "For research use only. Not for diagnosis."

_HOMES = {
    "EdgecellError": "edgecell.errors",
    "LoopConfig": "edgecell.edge.loop.config",
    "Model": "edgecell.api.model",
    "Observer": "edgecell.edge.loop.run",
    "convert_model": "edgecell.api.functions",
    "open_model": "edgecell.api.model",
    "open_run": "edgecell.edge.loop.run",
    "open_session": "edgecell.api.functions",
    "open_source": "edgecell.api.functions",
}


if not TYPE_CHECKING:  # otherwise type checkers would accept any name

    def __getattr__(name: str) -> object:
        """Imports a name of the API when it is first used (PEP 562)."""
        if name not in _HOMES:
            raise AttributeError(f"module 'edgecell' has no attribute '{name}'")
        from importlib import import_module

        if name != "EdgecellError":
            from edgecell.optional import require

            require("cv2", "edge")
        found = getattr(import_module(_HOMES[name]), name)
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
