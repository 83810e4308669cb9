"""Lines over days as an SVG that needs nothing to be looked at: no script, no font of its own, no library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 900, 300, 48, 40, 28
COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#666666", "#56b4e9", "#b8860b")
"""Told apart by those who see fewer colours, too (Okabe and Ito)."""


def line_plot(title: str, lines: Mapping[str, Sequence[float]], marks: Mapping[int, str]) -> str:
    """Return an SVG of lines by name, one value per day each, with words at some days. Raises ValueError where there is nothing to draw."""
    days = max((len(line) for line in lines.values()), default=0)
    most = max((value for line in lines.values() for value in line), default=0.0)
    if days < 2 or most <= 0:
        raise ValueError("a plot needs two days at least and a value above zero")
    step, scale = (WIDTH - LEFT - 8) / (days - 1), (HEIGHT - TOP - BOTTOM) / most
    base = HEIGHT - BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        _text(LEFT, 16, title),
    ]
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = base - share * most * scale
        parts += [f'<path d="M{LEFT} {y:.1f}H{WIDTH - 8}" stroke="#ddd"/>', _text(8, y + 4, f"{share * most:.1f}")]
    for day, words in marks.items():
        x = LEFT + day * step
        parts += [f'<path d="M{x:.1f} {TOP}V{base}" stroke="#999" stroke-dasharray="3 3"/>', _text(x, HEIGHT - 8, words)]
    for place, (name, line) in enumerate(lines.items()):
        colour = COLOURS[place % len(COLOURS)]
        points = " ".join(f"{LEFT + day * step:.1f},{base - value * scale:.1f}" for day, value in enumerate(line))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        parts.append(_text(LEFT + 90 * place, 32, name, colour))
    return "\n".join([*parts, "</svg>", ""])


def _text(x: float, y: float, words: str, colour: str = "#222") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}">{escape(words)}</text>'
