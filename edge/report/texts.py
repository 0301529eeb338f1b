"""What the page and the report say: one file, texts/en.json, that can be translated."""

import json
from functools import cache
from pathlib import Path


@cache
def texts() -> dict[str, str]:
    """All texts by key."""
    file = Path(__file__).parent / "texts" / "en.json"
    data = json.loads(file.read_text(encoding="utf-8"))
    return {str(key): str(text) for key, text in data.items()}


def text(key: str, **values: object) -> str:
    """One of the texts, with values put into its {places}.

    Raises:
        KeyError: there is no such text, or a value is missing.
    """
    return texts()[key].format(**values)


def words(reason: str) -> str:
    """A reason for review as a sentence; unchanged if it has none."""
    kind, _, rest = reason.partition(": ")
    key = f"reason.{kind}"
    return text(key, rest=rest) if key in texts() else reason
