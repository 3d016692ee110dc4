"""README's picture, from lesson 00's own outputs:  python tools/readme_picture.py"""

import base64
import io
from pathlib import Path

import nbformat
from PIL import Image

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
GAP = 40  # pixels


def main() -> None:
    cells = {cell.id: cell for cell in nbformat.read(NOTEBOOKS / "00_start_here.ipynb", as_version=4).cells}
    pictures = []
    for name in ("neighbours", "neighbours-after"):
        data = next(out.data for out in cells[name].outputs if "image/png" in out.get("data", {}))
        picture = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
        pictures.append(picture.crop((0, 0, picture.width // 2, picture.height)))  # six of the twelve columns
    width, height = pictures[0].size
    both = Image.new("RGB", (2 * width + GAP, height), "white")
    both.paste(pictures[0], (0, 0))
    both.paste(pictures[1], (width + GAP, 0))
    both.save(NOTEBOOKS / "00_neighbours.png", optimize=True)


if __name__ == "__main__":
    main()
