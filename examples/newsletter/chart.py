"""A horizontal bar chart as a PNG, drawn with Pillow."""

from collections.abc import Mapping
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

WIDTH, MARGIN, ROW = 960, 40, 34
LABELS, NUMBERS = 200, 60
PAPER, INK, FAINT, BAR = "#fdfcf8", "#22333b", "#e8e4da", "#2a7f9e"


def bar_chart(path: Path, title: str, counts: Mapping[str, int]) -> tuple[int, int]:
    """Write the chart, largest first, and return its width and height.

    The file is complete or absent: it is written under another name and then moved.
    """
    rows = sorted(counts.items(), key=lambda row: (-row[1], row[0]))
    height = 2 * MARGIN + 60 + ROW * max(1, len(rows))
    image = Image.new("RGB", (WIDTH, height), PAPER)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=17)
    draw.text((MARGIN, MARGIN), title, fill=INK, font=ImageFont.load_default(size=26))
    left, room = MARGIN + LABELS, WIDTH - 2 * MARGIN - LABELS - NUMBERS
    most = max(counts.values(), default=1)
    for index, (label, count) in enumerate(rows):
        top = MARGIN + 60 + index * ROW
        draw.text((MARGIN, top + 2), label, fill=INK, font=font)
        draw.rectangle((left, top, left + room, top + 22), fill=FAINT)
        end = left + room * count // most
        draw.rectangle((left, top, end, top + 22), fill=BAR)
        draw.text((left + room + 12, top + 2), str(count), fill=INK, font=font)
    unfinished = path.with_suffix(".part")
    image.save(unfinished, format="PNG", optimize=True)
    unfinished.replace(path)
    return image.size
