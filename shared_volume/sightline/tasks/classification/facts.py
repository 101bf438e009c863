"""Part facts: plain data that steps, reports and the laptop's commands know of classification."""

CONFIG = "classifier_small"
"""The config when none is named."""
SELECT_BY = "accuracy"
"""The metric that selects when none is named."""
NAMES = ("accuracy", "macro_F1")
"""Every metric that the task's scoring gives."""
HEADLINES = ("accuracy", "macro_F1")
"""The metrics that are shown first."""
SHORTEST = ("accuracy", "F1")
"""Those that stand for all others: in a line of the log, in a chart of classes."""
CHARTS: dict[str, str] = {}
"""The charts of a training that show metrics: all share one."""
ANNOTATED = "image"
"""What one annotation is of."""
FOUND = "answer"
"""What one result is."""
