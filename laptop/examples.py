"""An example of each command, for its --help and docs/commands.md."""

from typing import Final

EXAMPLES: Final = {
    "publish": "publish photographs/ --category desk --version v0.1.0 --policy missing_image=drop",
    "local": "local --category desk --epochs 30 --set optim_wrapper.optimizer.lr=0.002",
    "versions": "versions --category desk",
    "diff": "diff desk_ann_v0.1.0 desk_ann_v0.2.0",
    "verify": "verify desk_train_v0.1.0 --full",
    "configs": "configs rtmdet-ins",
    "prune": "prune --older-than 90",
    "export": "export desk_train_v0.1.0 --format coco --output desk-coco",
    "doctor": "doctor --cluster --namespace kubeflow",
    "compile": "compile -o pipeline.yaml --steps train,evaluate,test",
    "annotate": "annotate desk_ann_v0.1.0 --folder desk-next",
    "sample": "sample plates/ --images 30 --seed 1",
    "sync": "sync --namespace kubeflow --watch",
    "connect": "connect --namespace kubeflow --write cluster.env",
    "submit": "submit --category desk --epochs 30 --wait",
    "schedule": "schedule --category desk --cron '0 2 * * *' --time-zone Europe/Berlin",
    "retry": "retry latest --wait",
    "runs": "runs --category desk --limit 5",
    "logs": "logs latest train --follow",
}
"""Command -> what is typed after `python pipeline.py`."""
