"""Picture strips as one web page that needs no other file, small enough for a viewer in a browser."""

from __future__ import annotations

import base64
import io
from html import escape
from pathlib import Path

from PIL import Image

MOST = 12
"""Pictures on a page."""
WIDEST = 1200
"""Pixels; wider pictures are made smaller."""
QUALITY = 80
"""Of the JPEGs."""


def strips_page(folder: Path, title: str) -> str:
    """The PNGs of a folder, in order of their names, as data URIs; a missing folder has none."""
    pictures = sorted(folder.glob("*.png"))[:MOST]
    figures = "\n".join(
        f'<figure><img src="{_data_uri(picture)}" alt="{escape(picture.stem)}">'
        f"<figcaption>image {escape(picture.stem)}: image, truth, prediction</figcaption></figure>"
        for picture in pictures
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{escape(title)}</title>\n"
        "<style>body { font: 14px/1.4 system-ui, sans-serif; margin: 1rem; } figure { margin: 0 0 1rem; } "
        "img { max-width: 100%; }</style>\n</head>\n"
        f"<body>\n<h1>{escape(title)}</h1>\n{figures or '<p>no pictures</p>'}\n</body>\n</html>\n"
    )


def _data_uri(picture: Path) -> str:
    with Image.open(picture) as opened:
        image = opened.convert("RGB")
    image.thumbnail((WIDEST, WIDEST))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
