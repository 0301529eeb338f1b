"""Classifies a folder of single-cell images and prints a table as CSV.

python examples/folder_to_table.py FOLDER > cells.csv
"""

import csv
import sys
from pathlib import Path

import edgecell


def main(folder: str) -> None:
    model = edgecell.open_model("bundled")
    table = csv.writer(sys.stdout)
    table.writerow(("file", "class", "probability", "to review"))
    for path in sorted(Path(folder).iterdir()):
        try:
            cell = model.classify(path)
        except edgecell.EdgecellError as e:
            print(f"{path}: {e}", file=sys.stderr)
            continue
        review = "; ".join(cell.reasons)
        table.writerow((path.name, cell.code, f"{cell.probability:.3f}", review))

    print(edgecell.RESEARCH_USE, file=sys.stderr)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
