"""Draw in labelme's own window, as its user would. Runs in labelme's Python: `python draw_in_labelme.py IMAGE… <PLAN`.

The plan, JSON: `cell`, the pixels of a side of the square that each shape gets; `clicks`, where each tool clicks in it (as
do the types that no tool draws); `images`, the tools of each image, or null for all. Prints JSON: what labelme can draw that
the plan does not know, and of each image the shapes drawn, with the left upper corner of each one's square and labelme's own
box of it, or null if it has none.
"""

import json
import sys
from pathlib import Path
from typing import Any, get_args

import numpy as np
import osam
from labelme import _automation
from labelme._shape import Shape, ShapeType
from labelme.app import MainWindow
from labelme.widgets import canvas as labelme_canvas
from labelme.widgets.label_dialog import LabelDialog
from PyQt5 import QtCore, QtGui, QtWidgets
from PyQt5.QtCore import QEvent, QPointF, Qt


class Blob(osam.types.Model):
    """Takes the place of the models that labelme would download: it sees an ellipse around what it is pointed to."""

    name = "blob:latest"
    _blobs = {}

    def generate(self, request: osam.types.GenerateRequest) -> osam.types.GenerateResponse:
        x, y = request.prompt.points.mean(axis=0).round().astype(int).tolist()
        down, across = np.ogrid[-20:21, -30:31]
        mask = (across / 30) ** 2 + (down / 20) ** 2 <= 1
        box = osam.types.BoundingBox(xmin=x - 30, ymin=y - 20, xmax=x + 30, ymax=y + 20)
        seen = osam.types.Annotation(bounding_box=box, mask=mask, score=0.9)
        return osam.types.GenerateResponse(model=self.name, annotations=[seen])


class Annotator:
    """Somebody at labelme's window."""

    def __init__(self, cell: int) -> None:
        self.cell = cell
        self.window = MainWindow(config_overrides={"auto_save": True})
        self.canvas = self.window.findChild(labelme_canvas.Canvas)
        self.canvas.set_ai_model_name(Blob.name)
        self.tools = dict(self.window._actions.draw)
        self.label = ""
        self.corners: dict[str, tuple[int, int]] = {}  # of each label's square
        self.window.show()
        self.timer = QtCore.QTimer()
        self.timer.timeout.connect(self.answer)
        self.timer.start(5)

    def answer(self) -> None:
        """Type the label that labelme asks for."""
        dialog = QtWidgets.QApplication.activeModalWidget()
        if dialog is not None:
            assert isinstance(dialog, LabelDialog), f"labelme asks {dialog.windowTitle()!r}"
            dialog.edit.setText(self.label)
            dialog.findChild(QtWidgets.QDialogButtonBox).button(QtWidgets.QDialogButtonBox.Ok).click()

    def open(self, image: Path) -> None:
        self.cells = self.cells_of(image)
        self.window._load_file(str(image))
        self.window._set_zoom_to_original()
        QtWidgets.QApplication.processEvents()

    def cells_of(self, image: Path) -> list[tuple[int, int]]:
        """Left upper corners of the squares that fit on an image."""
        size = QtGui.QImageReader(str(image)).size()
        downs, acrosses = range(size.height() // self.cell), range(size.width() // self.cell)
        return [(across * self.cell, down * self.cell) for down in downs for across in acrosses][::-1]

    def draw(self, label: str, mode: str, output: str | None, clicks: list[list[float]]) -> None:
        """One shape in the next square; Ctrl with the last click ends those that have no natural end."""
        left, top = self.corners[label] = self.cells.pop()
        self.label = label
        self.tools[mode].trigger()
        if output:
            self.canvas.set_ai_output_format(output)
        for number, (x, y) in enumerate(clicks, 1):
            self.click(left + x, top + y, Qt.ControlModifier if number == len(clicks) else Qt.NoModifier)
        assert self.canvas.shapes and self.canvas.shapes[-1].label == label, f"{label} draws nothing"

    def click(self, x: float, y: float, modifier: Qt.KeyboardModifier) -> None:
        spare = self.canvas.size() - self.canvas.pixmap.size() * self.canvas.scale
        place = QPointF(x, y) * self.canvas.scale + QPointF(max(spare.width(), 0), max(spare.height(), 0)) / 2
        for kind, button in (
            (QEvent.MouseMove, Qt.NoButton),
            (QEvent.MouseButtonPress, Qt.LeftButton),
            (QEvent.MouseButtonRelease, Qt.LeftButton),
        ):
            event = QtGui.QMouseEvent(kind, place, button, button, modifier)
            QtWidgets.QApplication.sendEvent(self.canvas, event)
        QtWidgets.QApplication.processEvents()

    def insert(self, kind: str, points: list[list[float]]) -> None:
        """A shape of a type that no tool draws, by labelme's class."""
        left, top = self.corners[kind] = self.cells.pop()
        shape = Shape(label=kind, shape_type=kind, flags={}, description="")
        for x, y in points:
            shape.add_point(QPointF(left + x, top + y))
        shape.close()
        self.window._load_shapes([shape], replace=False)
        self.window.mark_dirty()

    def drawn(self) -> list[dict[str, Any]]:
        return [
            {"label": one.label, "type": one.shape_type, "corner": self.corners[one.label], "box": box_of(one)}
            for one in self.canvas.shapes
        ]


def box_of(shape: Shape) -> list[float] | None:
    """Left, top, right, bottom of what a shape covers; None if it covers nothing."""
    if shape.mask is not None:
        (y, x), origin = np.nonzero(shape.mask), shape.points[0]
        ends = x.min() + origin.x(), y.min() + origin.y(), x.max() + 1 + origin.x(), y.max() + 1 + origin.y()
        return [float(end) for end in ends]
    try:
        return _automation.shape_to_xyxy_bbox(shape=shape).tolist()
    except ValueError:  # what labelme says of a type that has no box
        return None


def main(images: list[str], plan: dict[str, Any]) -> dict[str, Any]:
    app = QtWidgets.QApplication(["labelme"])  # noqa: F841
    osam.apis.registered_model_types.append(Blob)
    annotator = Annotator(plan["cell"])
    clicks = plan["clicks"]
    modes = list(dict.fromkeys([*get_args(labelme_canvas._CreateMode), *annotator.tools]))
    unknown = [mode for mode in modes if mode not in clicks]
    drawn = {}
    for image in map(Path, images):
        annotator.open(image)
        wanted = plan["images"][image.name] or [*modes, *get_args(ShapeType)]
        for mode in [mode for mode in modes if mode in wanted and mode in clicks]:
            outputs = get_args(_automation.AiOutputFormat) if mode in labelme_canvas._AI_CREATE_MODES else [None]
            for output in outputs:
                annotator.draw(f"{mode} {output}" if output else mode, mode, output, clicks[mode])
        there = {one.shape_type for one in annotator.canvas.shapes}
        for kind in [kind for kind in get_args(ShapeType) if kind in wanted and kind not in there]:
            if kind in clicks:
                annotator.insert(kind, clicks[kind])
            else:
                unknown.append(kind)
        drawn[image.name] = annotator.drawn()
    annotator.window.close()
    return {"unknown": unknown, "modes": modes, "types": get_args(ShapeType), "drawn": drawn}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:], json.load(sys.stdin))))
