"""Finds the cells in a frame and draws them into a picture.

python examples/annotate_frame.py FRAME PICTURE
"""

import sys

import cv2

import edgecell


def main(frame: str, picture: str) -> None:
    image = cv2.imread(frame)
    if image is None:
        sys.exit(f"{frame} can't be read")
    found = edgecell.open_model("bundled").find_cells(image, channels="BGR")
    for cell in found.cells:
        box = cell.record.box
        label = cell.record.gate or cell.record.top[0].code
        cv2.rectangle(image, (box.x0, box.y0), (box.x1, box.y1), (160, 60, 0), 2)
        cv2.putText(image, label, (box.x0, box.y0 - 6), 0, 0.6, (160, 60, 0), 2)
    if not cv2.imwrite(picture, image):
        sys.exit(f"{picture} can't be written")
    print(f"Cells in {picture}: {len(found.cells)}. {edgecell.RESEARCH_USE}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2])
