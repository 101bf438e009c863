"""Where this installation keeps its things: environment variables, read once."""

from functools import cache
from pathlib import Path

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from sightline.errors import SightlineError


class Settings(BaseSettings):
    """One installation. Every field is the environment variable `SIGHTLINE_<NAME>`."""

    model_config = SettingsConfigDict(env_prefix="SIGHTLINE_", frozen=True)

    storage: str = Field(description="Storage root: `gs://bucket[/prefix]` or `file:///path`.")
    database_url: SecretStr = Field(
        description="SQLAlchemy URL: `mysql+pymysql://user:password@host/name` or `sqlite:///path`; tables are made and updated "
        "automatically."
    )
    dataset_repo: str = Field(description="Git URL or path of the dataset repository.")
    volume: Path = Field(default=Path("/shared_volume"), description="Where the persistent volume is mounted.")
    weights: str = Field(
        default="",
        description="A folder or `gs://bucket[/prefix]` with files of trained weights. Weights to begin from that a web address or a "
        "name stands for are looked for here first, by the file's name: for clusters without internet.",
    )
    run: str = Field(default="", description="The run's id; `local` and pods set it.")
    git_user_name: str = Field(default="sightline", description="Author of the dataset repository's commits.")
    git_user_email: str = Field(default="sightline@localhost", description="That author's address.")
    debug: bool = Field(
        default=False, description="`1` prints the traceback of every error, even of those that a sentence explains."
    )
    keep_releases: int = Field(
        default=20, ge=1, description="How many frozen copies of helper code are kept for each step, however old."
    )
    keep_days: float = Field(
        default=30,
        ge=1,
        description="For how many days after its last use any further copy is kept; those of running runs always are.",
    )
    keep_folders: int = Field(
        default=10,
        ge=1,
        description="How many of the newest work folders, unpacked datasets, fetched models and fetched weights are kept on the volume; the "
        "others are removed when a run starts, unless somebody uses them or a training is not finished.",
    )

    @field_validator("volume", mode="before")
    @classmethod
    def _named(cls, value: object) -> object:
        if not str(value).strip():  # which a path would take for the current folder
            raise ValueError("it is empty; name a folder, or leave it unset")
        return value


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
            f"Settings are missing or wrong ({problems}). Set these environment variables; docs/settings.md lists them."
        ) from None
