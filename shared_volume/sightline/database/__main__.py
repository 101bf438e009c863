"""`python -m sightline.database` brings the configured database's tables to this code's form."""

import logging
import sys

from sightline.database import connect
from sightline.errors import SightlineError
from sightline.settings import settings


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        database = connect(settings().database_url.get_secret_value())
        database.migrate()
    except SightlineError as error:
        logging.error("%s", error)
        return 1
    logging.info("%s is up to date", database.place)
    return 0


if __name__ == "__main__":
    sys.exit(main())
