"""`pipeline.py publish`: make an annotation version."""

from pathlib import Path


def publish(folder: Path, category: str, version: str) -> int:
    """Publish a labelme folder as an annotation version, and say what happened."""
    from sightline.publish import publish_annotations
    from sightline.settings import settings

    published = publish_annotations(settings(), folder, category, version)
    row = published.outcome.record
    if not published.outcome.new:
        print(f"{category} {version} is already published with the same content: nothing to do")
        return 0
    print(
        f"published {row.tag}: {row.image_count} images, {row.annotation_count} shapes, commit {str(row.commit)[:12]}"
    )
    if published.left_out:
        print(f"left out: {published.left_out} images without a JSON file")
    print(f"next: python pipeline.py local --category {category}")
    return 0
