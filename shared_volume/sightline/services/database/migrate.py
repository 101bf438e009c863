"""Bring the configured database's tables to this code's form: a job of the installation."""

import logging

from sightline.errors import SightlineError
from sightline.services.database.connection import connect
from sightline.settings import read_settings


def migrate_configured() -> int:
    """Returns the exit status; what went wrong is one line in the log."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        database = connect(read_settings().database_url.get_secret_value())
        database.migrate()
    except SightlineError as error:
        logging.error("%s", error)
        return 1
    logging.info("%s is up to date", database.name)
    return 0
