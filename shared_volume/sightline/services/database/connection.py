"""One database (SQLite or MySQL/MariaDB): connecting, transactions, migrations, and what goes wrong with them."""

import hashlib
import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import orjson
import sqlalchemy
from sqlalchemy import Connection, Select, event, inspect, text
from sqlalchemy.engine import URL, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from sightline.errors import SightlineError
from sightline.processes.deadline import deadline_seconds
from sightline.services.database.nothing import nothing

log = logging.getLogger(__name__)

T = TypeVar("T")
P = ParamSpec("P")

CONNECT_SECONDS = 10.0
LOCK_SECONDS = 30.0  # how long SQLite waits for another process's write
MIGRATION_SECONDS = 120  # how long one process waits for another's migration
LONGEST_PAUSE_SECONDS = 2.0  # between two attempts

# MySQL's numbers: cannot connect, server gone, lost connection, too many connections, shutting down.
UNREACHABLE = frozenset({1040, 1053, 2002, 2003, 2005, 2006, 2013, 2055})
DENIED = frozenset({1044, 1045, 1142, 1698})
UNKNOWN_DATABASE = 1049
AGAIN = frozenset({1205, 1213})  # lock wait timeout, deadlock: the transaction did nothing

# Alembic's migrations of the tables start with their number, which is their revision. They only add: code that is older than
# the database (a run that started before an upgrade) goes on working. Every operation can be repeated, because MySQL cannot
# take back half a migration: `if_not_exists=True`.
MIGRATIONS = Path(__file__).parent / "migrations"
HEAD = max(path.stem.partition("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))


class DatabaseError(SightlineError):
    """The database could not do what was asked."""


class DatabaseUnreachableError(DatabaseError):
    """The database gave no answer within the deadline."""


class DatabaseDeniedError(DatabaseError):
    """The database refused the user or what the user may do."""


class Database:
    """An open database. Safe to share between threads; make a new one after a fork."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @property
    def name(self) -> str:
        """Where it is, for messages: `mysql at host:port/name` or the SQLite file; never with a password."""
        url = self.engine.url
        if url.get_backend_name() == "sqlite":
            return f"SQLite file {url.database}"
        return f"{url.get_backend_name()} at {url.host or 'localhost'}:{url.port or 3306}/{url.database}"

    @property
    def is_to_be_made(self) -> bool:
        """Whether it is a SQLite file that is not there yet; the first migration makes it, and a read finds nothing."""
        return self.engine.url.get_backend_name() == "sqlite" and not Path(str(self.engine.url.database)).exists()

    def read(self, work: Callable[[Session], T]) -> T:
        """What `work` finds, in one transaction that writes nothing; a DatabaseError says how that failed."""
        return self._transact(work, nothing() if self.is_to_be_made else self.engine)

    def rows(self, query: Select[T]) -> list[T]:
        """What a query of one table finds; raises like `read`."""
        return self.read(lambda session: list(session.scalars(query)))

    def write(self, work: Callable[[Session], T]) -> T:
        """What `work` returns, after all that it wrote was committed; after a DatabaseError nothing was written.

        After a deadlock or a lost connection `work` is called again in a new transaction, so it must bear repetition.
        """
        return self._transact(work, self.engine.execution_options(sightline_writes=True))

    def revision(self) -> str | None:
        """The migration that the tables are at; None where there are none yet. Makes nothing."""
        return self.read(lambda session: _revision(session.connection()))

    def table_names(self) -> set[str]:
        """What tables are there, whoever made them."""
        return self.read(lambda session: set(inspect(session.connection()).get_table_names()))

    def is_newer(self) -> bool:
        """Whether the tables are those of a newer Sightline, of which this one does not know all that it should keep."""
        found = self.revision()
        return found is not None and found > HEAD

    def migrate(self) -> None:
        """Bring the tables to this code's form; quick when they have it. One process does it, others wait."""
        found = self.revision()
        if found == HEAD:
            return
        if found is not None and found > HEAD:
            log.warning("%s has tables of a newer Sightline (%s, this one knows %s); going on", self.name, found, HEAD)
            return
        if self.is_to_be_made:
            with suppress(OSError):  # what stands in the way is told when the file is opened
                Path(str(self.engine.url.database)).parent.mkdir(parents=True, exist_ok=True)
        from alembic import command  # 0.3 s, for the rare time that there is something to migrate
        from alembic.config import Config

        with self._telling_errors(time.monotonic()), self._migrating() as connection:
            if _revision(connection) != HEAD:
                log.info("migrating %s from %s to %s", self.name, found or "nothing", HEAD)
                config = Config(attributes={"connection": connection})
                config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
                command.upgrade(config, "head")

    def close(self) -> None:
        """Give back the connections."""
        self.engine.dispose()

    def _transact(self, work: Callable[[Session], T], engine: Engine) -> T:
        started, pause = time.monotonic(), 0.05
        with self._telling_errors(started):
            while True:
                try:
                    with Session(engine, expire_on_commit=False) as session, session.begin():
                        return work(session)
                except DBAPIError as error:
                    if not _passing(error) or time.monotonic() - started + pause > deadline_seconds():
                        raise
                    log.warning("%s: %s; trying again", self.name, _cause(error))
                    time.sleep(pause * random.uniform(0.5, 1.0))
                    pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    @contextmanager
    def _migrating(self) -> Iterator[Connection]:
        """The only connection that is migrating this database."""
        with self.engine.connect() as connection:
            if self.engine.url.get_backend_name() == "sqlite":
                connection = connection.execution_options(sightline_writes=True)
                with connection.begin():  # SQLite's own write lock
                    yield connection
                return
            name = "sightline-" + hashlib.sha256(str(self.engine.url.database).encode()).hexdigest()[:16]
            until = time.monotonic() + MIGRATION_SECONDS
            while connection.scalar(text("SELECT GET_LOCK(:name, 0)"), {"name": name}) != 1:
                if time.monotonic() > until:
                    raise DatabaseError(
                        f"Another process has been migrating {self.name} for {MIGRATION_SECONDS} s. Wait for it, or find "
                        "it with SHOW PROCESSLIST."
                    )
                time.sleep(0.1)
            try:
                yield connection
                connection.commit()
            finally:
                connection.execute(text("SELECT RELEASE_LOCK(:name)"), {"name": name})

    @contextmanager
    def _telling_errors(self, started: float) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            raise self._told(error, time.monotonic() - started) from error
        except SQLAlchemyError as error:
            raise DatabaseError(f"{self.name} failed: {_cause(error)}.") from error

    def _told(self, error: DBAPIError, seconds: float) -> DatabaseError:
        number, cause, url = _number(error), _cause(error), self.engine.url
        if number in DENIED:
            return DatabaseDeniedError(
                f"{self.name} refused the user {url.username!r} ({cause}). Check the user, password and grants of "
                "SIGHTLINE_DATABASE_URL."
            )
        if number == UNKNOWN_DATABASE:
            return DatabaseError(f"{self.name}: there is no such database. CREATE DATABASE {url.database}.")
        if _passing(error):
            return DatabaseUnreachableError(
                f"{self.name} could not be reached: tried for {seconds:.0f} s ({cause}). Check SIGHTLINE_DATABASE_URL, "
                f"the server, and SIGHTLINE_TIMEOUT (now {deadline_seconds():g} s)."
            )
        if "unable to open database file" in cause or "readonly database" in cause:
            return DatabaseDeniedError(
                f"{self.name} cannot be opened for writing. Check that path, its owner and mode."
            )
        if "not a database" in cause or "malformed" in cause:
            return DatabaseError(
                f"{self.name} is not a SQLite database ({cause}). Use another file, or restore this one."
            )
        return DatabaseError(f"{self.name} failed: {cause}.")


def in_transaction(work: Callable[Concatenate[Session, P], T]) -> Callable[Concatenate[Database, P], T]:
    """Make what works in a session take a database instead: it runs, and raises, as `Database.write` says."""

    @wraps(work)
    def call(database: Database, *arguments: P.args, **options: P.kwargs) -> T:
        return database.write(lambda session: work(session, *arguments, **options))

    return call


def connect(url: str) -> Database:
    """The database at `sqlite:///path/to/file` or `mysql+pymysql://user:password@host:port/name` (also `mysql://`, `mariadb://`).

    Reaches and makes nothing yet. A DatabaseError for another kind of database, or a malformed URL,
    which is not repeated: it may hold a password.
    """
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except (ArgumentError, ValueError):
        raise DatabaseError(
            "SIGHTLINE_DATABASE_URL is no database URL. Write sqlite:///path or mysql+pymysql://user:password@host/name."
        ) from None
    if backend == "sqlite":
        return Database(_sqlite(parsed))
    if backend in ("mysql", "mariadb"):
        return Database(_mysql(parsed))
    raise DatabaseError(f"{backend} is not a supported database. Use sqlite:///path or mysql+pymysql://….")


def _sqlite(url: URL) -> Engine:
    if not url.database or url.database == ":memory:":
        raise DatabaseError("A SQLite database needs a file, which all steps share: sqlite:///path/to/sightline.db.")
    # No pool: opening a file costs less than a stale connection to a replaced one.
    engine = sqlalchemy.create_engine(
        url.set(database=str(Path(url.database).absolute())),
        poolclass=NullPool,
        json_deserializer=orjson.loads,  # a JSON column of 10,000 rows takes a quarter of the time
        connect_args={"timeout": min(LOCK_SECONDS, deadline_seconds())},
    )

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # the driver's own BEGIN comes too late
        connection.execute("PRAGMA foreign_keys = ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A transaction that turns from reading to writing would fail at once when another writes: lock from the start.
        writes = connection.get_execution_options().get("sightline_writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _mysql(url: URL) -> Engine:
    if "@" in f"{url.host}{url.database}":  # the end of a password that has one: it is not repeated
        raise DatabaseError(
            "SIGHTLINE_DATABASE_URL has an @ where none can be: write %40 for each in the name or the password, %2F for /, %25 for %."
        )
    url = url.set(drivername=f"{url.get_backend_name()}+pymysql")
    if not url.database:
        raise DatabaseError("SIGHTLINE_DATABASE_URL names no database: write mysql+pymysql://user:password@host/name.")
    return sqlalchemy.create_engine(
        url.update_query_dict({"charset": "utf8mb4"}),
        json_deserializer=orjson.loads,
        pool_pre_ping=True,
        pool_recycle=1800,  # below the idle limits of servers and of the proxies in front of them
        pool_size=2,
        # Only rows that exist are locked: two steps that insert at once do not deadlock over a gap.
        isolation_level="READ COMMITTED",
        connect_args={
            "connect_timeout": max(1, int(min(CONNECT_SECONDS, deadline_seconds()))),
            "read_timeout": deadline_seconds(),  # also for the server's greeting, which connect_timeout leaves out
            "write_timeout": deadline_seconds(),
        },
    )


def _revision(connection: Connection) -> str | None:
    """The migration that the tables are at; None before the first."""
    begun = inspect(connection).has_table("alembic_version")
    return connection.scalar(text("SELECT version_num FROM alembic_version")) if begun else None


def _number(error: DBAPIError) -> int | None:
    arguments = getattr(error.orig, "args", ())
    return arguments[0] if arguments and isinstance(arguments[0], int) else None


def _passing(error: DBAPIError) -> bool:
    """Whether the same may succeed in a moment."""
    return (
        _number(error) in UNREACHABLE | AGAIN or "database is locked" in str(error.orig) or error.connection_invalidated
    )


def _cause(error: SQLAlchemyError) -> str:
    """The database's own words, in one line, without the statement and its values."""
    origin = error.orig if isinstance(error, DBAPIError) else error
    arguments = getattr(origin, "args", ()) or (type(origin).__name__,)
    return str(arguments[-1]).splitlines()[0][:300].rstrip(".")
