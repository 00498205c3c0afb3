"""Text in pictures: its typeface, lines that are wrapped and never cut, numbers."""

from __future__ import annotations

import re
from pathlib import Path

from PIL import ImageFont

from ._colours import require_matplotlib


def typeface(size: float, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Matplotlib's own font, which has the letters of more languages than Pillow's."""
    require_matplotlib()
    import matplotlib

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", name), size)


def wrap(text: str, font: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """Break a text into lines of at most ``width``.

    A line ends at a space, after one of ``: , / = -``, before a ``_``, or, where a part is wider than the line, at any
    letter.
    """
    lines, line = [], ""
    for part in re.findall(r"\s+|_*[^\s_:,/=-]+[:,/=-]*|[_:,/=-]+", " ".join(text.split())):
        while font.getlength((line + part).rstrip()) > width:
            if line.strip():
                lines.append(line.rstrip())
                line, part = "", part.lstrip()
                continue
            # The part alone is too wide: as many letters as fit, and one at least, so that it ends.
            fitting = next((n for n in range(len(part) - 1, 1, -1) if font.getlength(part[:n]) <= width), 1)
            if fitting >= len(part):
                break
            lines.append(part[:fitting])
            part = part[fitting:]
        line += part if line or part.strip() else ""
    return [*lines, line.rstrip()] if line.strip() else lines


def number(value: float) -> str:
    """A number at the end of a colour bar, in three digits."""
    return f"{value:.3g}".replace("-", "\N{MINUS SIGN}")
