"""Part facts: plain data that steps, reports and the laptop's commands know; `tasks/task.py: Facts` says what each is."""

CONFIG = "classifier_small"
SELECT_BY = "accuracy"
NAMES = ("accuracy", "macro_F1")
HEADLINES = ("accuracy", "macro_F1")
SHORTEST = ("accuracy", "F1")
CHARTS: dict[str, str] = {}
ANNOTATED = "image"
FOUND = "answer"
