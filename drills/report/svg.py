"""A figure as SVG inside a page: small, coloured by the page's style sheet, the same for the same data."""

from __future__ import annotations

import io
import re
from xml.etree import ElementTree as ET

import matplotlib as mpl
from matplotlib.figure import Figure

from .palette import COLOURS

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
_NUMBER = re.compile(r"-?\d+\.\d{2,}")
_REFERENCE = re.compile(r"#([\w-]+)")
_FONT = re.compile(r"font-family: [^;]+;? ?")
_SPACE = re.compile(r"\s*([A-Za-z])\s*|\s{2,}")
#: Attributes that hold coordinates, in points.
_COORDINATES = ("d", "x", "y", "width", "height", "transform", "viewBox")


def inline(figure: Figure, name: str, label: str) -> str:
    """Return a figure as one ``svg`` element.

    ``name`` keeps its ids apart from those of other figures on the page; ``label`` says what it shows to those who
    cannot see it. Text stays text, in the page's font.
    """
    text = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    root = ET.fromstring(text.getvalue())  # noqa: S314 # Matplotlib wrote it
    # Matplotlib's style element would hold for the whole page; its rules are in the page's own.
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"):
                parent.remove(child)
    _forget_ids(root)
    variables = {colour: f"var(--chart-{key.replace(' ', '-')})" for key, colour in COLOURS.items()}
    for element in root.iter():
        element.tail = None
        if not (element.text or "").strip():
            element.text = None
        for attribute in _COORDINATES:
            if value := element.get(attribute):
                element.set(attribute, _NUMBER.sub(_rounded, value))
        if path := element.get("d"):
            element.set("d", _SPACE.sub(lambda found: found[1] or " ", path))
        if element.get("transform", "").startswith("rotate(-0 "):
            del element.attrib["transform"]
        for attribute in ("style", "fill", "stroke"):
            if value := element.get(attribute):
                for colour, variable in variables.items():
                    value = value.replace(colour, variable)
                element.set(attribute, _FONT.sub("", value))
    _forget_empty(root)
    for attribute in ("width", "height", "version"):
        root.attrib.pop(attribute, None)
    root.set("role", "img")
    root.set("aria-label", label)
    ET.register_namespace("", _SVG)
    ET.register_namespace("xlink", _XLINK)
    return ET.tostring(root, encoding="unicode")


def _rounded(found: re.Match[str]) -> str:
    # A tenth of a point is less than a pixel of most screens.
    return f"{round(float(found[0]), 1) + 0.0:g}"


def _forget_ids(root: ET.Element) -> None:
    """Remove the ids that nothing refers to: they would occur again in the next figure of the page."""
    referred = {
        reference
        for element in root.iter()
        for attribute, value in element.attrib.items()
        if attribute != "id"
        for reference in _REFERENCE.findall(value)
    }
    for element in root.iter():
        if element.get("id") not in referred:
            element.attrib.pop("id", None)


def _forget_empty(element: ET.Element) -> None:
    for child in list(element):
        _forget_empty(child)
        if child.tag == f"{{{_SVG}}}g" and not len(child):
            element.remove(child)
