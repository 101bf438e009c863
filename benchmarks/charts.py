"""A report's chart of three curves by our own SVG and by matplotlib's: seconds and bytes, both sides in one run.

    python benchmarks/charts.py [--times 20]

What no number shows: ours follows the reader's dark or light theme, has tooltips without a script, and keeps its text's
size in a narrow frame; matplotlib's colours and sizes are fixed when it draws.
"""

import argparse
import io
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "shared_volume"))

STEPS = range(240)
CURVES = {
    name: [size * math.exp(-step / 60) + 0.1 for step in STEPS]
    for size, name in enumerate(("loss_cls", "loss_bbox", "loss_mask"), start=1)
}


def draw_ours() -> str:
    from sightline.reports.charts import Series, line_chart

    curves = [Series(name, list(STEPS), values) for name, values in CURVES.items()]
    return str(line_chart("Loss", curves, "iteration", "loss"))


def draw_by_matplotlib() -> str:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["svg.fonttype"] = "none"  # text as text, the smallest that it writes
    figure = Figure(figsize=(4.2, 2.5))
    axes = figure.subplots()
    for name, values in CURVES.items():
        axes.plot(STEPS, values, label=name)
    axes.set(xlabel="iteration", ylabel="loss")
    axes.legend()
    figure.tight_layout()
    written = io.StringIO()
    figure.savefig(written, format="svg")
    return written.getvalue()


def measure(name: str, draw: Callable[[], str], times: int) -> None:
    began = time.perf_counter()
    draw()
    first = time.perf_counter() - began
    began = time.perf_counter()
    for _ in range(times):
        drawn = draw()
    each = (time.perf_counter() - began) / times
    print(
        f"{name:12}{first:8.2f} s the first, with its imports  {1000 * each:8.1f} ms each  {len(drawn.encode()):8,} bytes"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=20)
    times = parser.parse_args().times
    measure("ours", draw_ours, times)
    measure("matplotlib", draw_by_matplotlib, times)


if __name__ == "__main__":
    main()
