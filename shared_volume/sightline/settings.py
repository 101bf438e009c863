"""Where this installation keeps its things: environment variables, read once."""

from functools import cache
from pathlib import Path

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from sightline.errors import SightlineError


class Settings(BaseSettings):
    """One installation. Every field is the environment variable `SIGHTLINE_<NAME>`."""

    model_config = SettingsConfigDict(env_prefix="SIGHTLINE_", frozen=True)

    storage: str = Field(description="Storage root: gs://bucket[/prefix] or file:///path.")
    database_url: SecretStr = Field(description="SQLAlchemy URL: mysql+pymysql://… or sqlite:///path.")
    dataset_repo: str = Field(description="Git URL or path of the dataset repository.")
    volume: Path = Field(default=Path("/shared_volume"), description="Where the persistent volume is mounted.")
    run: str = Field(default="", description="The run's id (on the cluster from the pod's labels).")
    git_user_name: str = Field(default="sightline", description="Author of the dataset repository's commits.")
    git_user_email: str = Field(default="sightline@localhost", description="That author's address.")
    debug: bool = Field(
        default=False, description="Print the traceback of every error, also of those that a sentence explains."
    )
    keep_releases: int = Field(default=20, ge=1, description="Frozen code that stays, however old: so many per step.")
    keep_days: float = Field(default=30, ge=1, description="How long more of it stays after a run has used it.")


@cache
def read_settings() -> Settings:
    """The process's settings; a SightlineError names what is missing or malformed, and what to set."""
    try:
        return Settings()  # type: ignore[call-arg]  # the values come from the environment
    except ValidationError as error:
        problems = "; ".join(
            f"SIGHTLINE_{str(problem['loc'][0]).upper()}: {problem['msg'].lower()}" for problem in error.errors()
        )
        raise SightlineError(
            f"Settings are missing or wrong ({problems}). Set these environment variables; the table is in README.md."
        ) from None
