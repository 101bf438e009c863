"""An installation's whole content, to go back to after each test; and an installation made older."""

import json
import os
import shutil
import urllib.parse
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy

from sightline.services.database.connection import Database, connect
from sightline.services.database.models import Base, StepRow
from sightline.services.storage.access import open_storage
from sightline.settings import Settings
from tests.gcs_emulator import AGE

DAY = 86_400.0  # seconds


@dataclass(frozen=True)
class Kept:
    """What an installation held: its folder, beside it a copy; with services also the bucket's objects and the rows."""

    settings: Settings
    folder: Path
    copy: Path
    objects: dict[str, tuple[bytes, datetime]]
    rows: dict[str, list[dict[str, Any]]]

    def restore(self) -> None:
        """Make it hold that again."""
        shutil.rmtree(self.folder)
        shutil.copytree(self.copy, self.folder, symlinks=True)
        if self.objects:
            storage = open_storage(self.settings.storage)
            for item in storage.list():
                storage.delete(item.key)
            for key, (data, changed_at) in self.objects.items():
                storage.write_bytes(key, data)
                age_object(self.settings.storage, key, changed_at)
        if self.rows:
            self._restore_rows()

    def _restore_rows(self) -> None:
        database = opened(self.settings)
        tables = Base.metadata.sorted_tables
        with database.engine.begin() as connection:
            connection.execute(sqlalchemy.text("SET foreign_key_checks = 0"))  # a version refers to another
            for table in tables:
                connection.execute(table.delete())
            for table in tables:
                if rows := self.rows[table.name]:
                    connection.execute(table.insert(), rows)
        database.close()


def keep(settings: Settings, folder: Path) -> Kept:
    """Remember all that an installation holds; `folder` is what of it lies on this machine."""
    copy = folder.with_name(f"{folder.name}.kept")
    shutil.copytree(folder, copy, symlinks=True)
    objects, rows = {}, {}
    if in_bucket(settings):
        storage = open_storage(settings.storage)
        objects = {item.key: (storage.read_bytes(item.key), item.changed_at) for item in storage.list()}
    if not settings.database_url.get_secret_value().startswith("sqlite"):
        database = opened(settings)
        with database.engine.connect() as connection:
            for table in Base.metadata.sorted_tables:
                rows[table.name] = [dict(row._mapping) for row in connection.execute(sqlalchemy.select(table))]
        database.close()
    return Kept(settings, folder, copy, objects, rows)


def opened(settings: Settings) -> Database:
    """The installation's database, to close again."""
    database = connect(settings.database_url.get_secret_value())
    database.migrate()
    return database


def in_bucket(settings: Settings) -> bool:
    """Whether its storage is a bucket."""
    return settings.storage.startswith("gs://")


def grow_old(settings: Settings, days: float) -> None:
    """Make everything on the volume and in the storage, and what runs say, so many days older."""
    roots = [settings.volume]
    if in_bucket(settings):
        for item in list(open_storage(settings.storage).list()):
            age_object(settings.storage, item.key, item.changed_at - timedelta(days=days))
    else:
        roots.append(Path(settings.storage.removeprefix("file://")))
    for path in (path for root in roots for path in root.rglob("*") if not path.is_symlink()):
        when = path.stat().st_mtime - days * DAY
        os.utime(path, (when, when))
    database = opened(settings)
    older = sqlalchemy.update(StepRow).values(heartbeat_at=datetime.now(UTC) - timedelta(days=days))
    database.write(lambda session: session.execute(older))
    database.close()


def age_object(root: str, key: str, changed_at: datetime) -> None:
    """Have the emulator say that an object was written then."""
    bucket, _, prefix = root.removeprefix("gs://").partition("/")
    name = urllib.parse.quote(f"{prefix}/{key}" if prefix else key, safe="")
    url = f"{os.environ['STORAGE_EMULATOR_HOST']}/storage/v1/b/{bucket}/o/{name}"
    body = json.dumps({AGE: changed_at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")}).encode()
    headers = {"Content-Type": "application/json"}
    urllib.request.urlopen(urllib.request.Request(url, body, headers, method="PATCH")).close()
