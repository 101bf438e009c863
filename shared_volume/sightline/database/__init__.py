"""The one door to the SQL database: what is published, what ran, and how models scored.

`connect(url)` opens it, `Database.migrate()` makes the tables. Every function returns frozen records and raises a
DatabaseError that says where the database is and what it said, never its password.
"""

from sightline.database.connection import (
    Database,
    DatabaseDeniedError,
    DatabaseError,
    DatabaseUnreachableError,
    connect,
)
from sightline.database.runs import (
    RunRecord,
    StepRecord,
    beat,
    end_step,
    find_run,
    list_runs,
    list_steps,
    recorded_step,
    start_step,
)
from sightline.database.scores import (
    EvaluationRecord,
    ModelRecord,
    find_model,
    list_evaluations,
    record_evaluation,
    record_model,
)
from sightline.database.versions import (
    Claim,
    ClaimLostError,
    FindingRow,
    ImageRow,
    VersionClaimedError,
    VersionRecord,
    VersionTakenError,
    claim_version,
    find_version,
    list_findings,
    list_images,
    list_versions,
    newest_version,
    publish_version,
    release_claim,
    renew_claim,
)

__all__ = [
    "Claim",
    "ClaimLostError",
    "Database",
    "DatabaseDeniedError",
    "DatabaseError",
    "DatabaseUnreachableError",
    "EvaluationRecord",
    "FindingRow",
    "ImageRow",
    "ModelRecord",
    "RunRecord",
    "StepRecord",
    "VersionClaimedError",
    "VersionRecord",
    "VersionTakenError",
    "beat",
    "claim_version",
    "connect",
    "end_step",
    "find_model",
    "find_run",
    "find_version",
    "list_evaluations",
    "list_findings",
    "list_images",
    "list_runs",
    "list_steps",
    "list_versions",
    "newest_version",
    "publish_version",
    "record_evaluation",
    "record_model",
    "recorded_step",
    "release_claim",
    "renew_claim",
    "start_step",
]
