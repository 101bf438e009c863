"""What is read of a SQLite file that is not there: no rows. SQLite itself would leave an empty file."""

from functools import cache

import sqlalchemy
from sqlalchemy.engine import Engine
from sqlalchemy.pool import StaticPool

from sightline.services.database.models import Base


@cache
def nothing() -> Engine:
    """An empty database in memory, with this code's tables."""
    arguments = {"check_same_thread": False}
    engine = sqlalchemy.create_engine("sqlite://", poolclass=StaticPool, connect_args=arguments)
    Base.metadata.create_all(engine)
    return engine
