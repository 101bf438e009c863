"""Publishing and pulling 10,000 images of 8 KB: as a dataset version (tar shards), and unpacked under plain DVC.

    python benchmarks/dataset_pull.py [--images 10000]

Both sides use a remote on this machine, and pull into a fresh clone with an empty cache. Ours counts everything: packing,
Git, SQL rows, verifying the remote, unpacking. The sides take turns, three rounds, and the fastest of each counts. Exits
with 1 when our pull is not at least 5 times faster.
"""

import argparse
import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve()
sys.path.insert(0, str(HERE.parents[1] / "shared_volume"))
sys.path.insert(0, str(HERE.parent))

import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402

from sightline.services.database.connection import connect  # noqa: E402
from sightline.services.versioning.datasets import find_dataset, pull_dataset  # noqa: E402
from sightline.services.versioning.publication import Content, Services, publish  # noqa: E402
from sightline.services.versioning.repository import DatasetRepo  # noqa: E402
from sightline.services.versioning.shards import pack_images  # noqa: E402
from sightline.settings import Settings  # noqa: E402

TIMES_FASTER = 5
ROUNDS = 3
WIDTH, QUALITY = 224, 50


def make_images(folder: Path, count: int) -> None:
    """Small JPEG files, equal but for a comment, which makes their content unique."""
    jpeg = small_jpeg()
    folder.mkdir(parents=True)
    for index in range(count):
        comment = f"{index:05d}".encode()
        (folder / f"{index:05d}.jpg").write_bytes(jpeg[:2] + b"\xff\xfe\x00\x07" + comment + jpeg[2:])


def small_jpeg() -> bytes:
    """About 8 KB."""
    noise = np.random.default_rng(0).integers(0, 256, (WIDTH // 8, WIDTH // 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    picture = Image.fromarray(noise).resize((WIDTH, WIDTH), Image.Resampling.BICUBIC)
    picture.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def timed(work: Callable[[], object]) -> float:
    """Seconds that `work` takes; what was written before it is on the disk already."""
    os.sync()
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def run_ours(images: Path, work: Path) -> tuple[float, float]:
    """Seconds to publish, seconds to pull and unpack."""
    settings = Settings(
        storage=(work / "storage").as_uri(),
        database_url=f"sqlite:///{work / 'sightline.db'}",  # type: ignore[arg-type]  # pydantic makes it a secret
        dataset_repo=str(work / "dataset.git"),
        volume=work / "volume",
    )
    database = connect(settings.database_url.get_secret_value())
    database.migrate()
    services = Services(DatasetRepo.of(settings), database)

    def build(target: Path) -> Content:
        pack_images({path.name: path for path in images.iterdir()}, target)
        (target / "dataset.json").write_text("{}")
        return Content(images=())

    publishing = timed(lambda: publish(services, "bench", "dataset", "v1.0.0", build))
    elsewhere = settings.model_copy(update={"volume": work / "another volume"})
    pulled: list[Path] = []
    pulling = timed(lambda: pulled.append(pull_dataset(elsewhere, find_dataset(elsewhere, "bench", "v1.0.0"))))
    require_equal(images, pulled[0] / "images")
    return publishing, pulling


def run_plain(images: Path, work: Path) -> tuple[float, float]:
    """The same for the folder of images as it is, with the programs git and dvc."""
    bare, first, second = work / "dataset.git", work / "first", work / "second"
    execute("git", "init", "--quiet", "--bare", "--initial-branch", "main", str(bare))
    execute("git", "clone", "--quiet", str(bare), str(first))
    dvc(first, "init", "--quiet")
    dvc(first, "remote", "add", "--quiet", "--default", "storage", str(work / "storage"))

    def publish_plainly() -> None:
        execute("cp", "-r", str(images), str(first / "images"))
        dvc(first, "add", "--quiet", "images")
        dvc(first, "push", "--quiet")
        identity = ["-c", "user.name=bench", "-c", "user.email=bench@localhost"]
        execute("git", "-C", str(first), "add", "--all")
        execute("git", "-C", str(first), *identity, "commit", "--quiet", "-m", "images")
        execute("git", "-C", str(first), "push", "--quiet", "origin", "HEAD:main")

    def pull_plainly() -> None:
        execute("git", "clone", "--quiet", str(bare), str(second))
        dvc(second, "pull", "--quiet")

    publishing, pulling = timed(publish_plainly), timed(pull_plainly)
    require_equal(images, second / "images")
    return publishing, pulling


def dvc(folder: Path, *arguments: str) -> None:
    execute(sys.executable, "-m", "dvc", "--cd", str(folder), *arguments)


def execute(*command: str) -> None:
    subprocess.run(command, check=True)


def require_equal(images: Path, pulled: Path) -> None:
    for path in images.iterdir():
        if (pulled / path.name).read_bytes() != path.read_bytes():
            raise SystemExit(f"{path.name} arrived changed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=10_000)
    count = parser.parse_args().images
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        os.environ |= {"DVC_SITE_CACHE_DIR": str(work / "dvc-site"), "DVC_NO_ANALYTICS": "1"}
        make_images(work / "images", count)
        size = next((work / "images").iterdir()).stat().st_size
        print(f"{count} images of {size / 1000:.1f} kB; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        print(f"{'':24s} {'publish':>9s} {'pull':>9s}")
        sides = {"dataset version (ours)": run_ours, "plain DVC, unpacked": run_plain}
        rounds: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
        for turn in range(ROUNDS):
            for name, measure in sides.items():
                settings = work / f"{name} {turn}"
                settings.mkdir()
                rounds[name].append(measure(work / "images", settings))
                print(f"{name:24s} {rounds[name][-1][0]:7.1f} s {rounds[name][-1][1]:7.1f} s", flush=True)
        # The fastest of each: whatever else the machine does only ever adds time.
        ours, plain = ([min(column) for column in zip(*times, strict=True)] for times in rounds.values())
        print(
            f"{'times faster':24s} {plain[0] / ours[0]:9.1f} {plain[1] / ours[1]:9.1f}   (pull: at least {TIMES_FASTER})"
        )
        if plain[1] < TIMES_FASTER * ours[1]:
            raise SystemExit(1)


if __name__ == "__main__":
    main()
