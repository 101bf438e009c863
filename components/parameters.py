"""Every parameter of the pipeline, once: its form, its wiring, the laptop's options and the table in docs/steps.md follow.

To add one, write a row here, an argument of the component that it goes to, and an argument of the step's function in the
library. The name in the pipeline is only here: the component calls it as it likes.

Imports next to nothing: `pipeline.py --help` needs it.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

STEPS = ("snapshot", "record", "train", "evaluate", "test")  # in the order they run; snapshot is in every pipeline


@dataclass(frozen=True, slots=True)
class Option:
    """How the laptop's commands take a parameter."""

    flag: str
    metavar: str = ""  # what stands for the value in the help, where the flag's own name does not
    example: str = ""  # of a mapping: one KEY=VALUE


@dataclass(frozen=True, slots=True, eq=False)
class Parameter:
    """One parameter of the pipeline."""

    # The form of the Kubeflow UI sorts by it: it begins with the step that it is for, with `pod` for every pod.
    name: str
    default: Any  # what the form shows; tells the type. Empty or 0 says that nobody chose
    help: str
    empty: str = ""  # what holds when it is empty or 0
    to: Mapping[str, str] = field(default_factory=dict)  # component that gets it -> its argument there
    pod: Mapping[str, str] = field(default_factory=dict)  # step whose pod it shapes -> what it sets of that
    only_for: tuple[str, ...] = ()  # steps without which no pipeline has it; else those of `to` and `pod` but snapshot
    not_with: tuple[str, ...] = ()  # steps that make what it names, so that no pipeline with one of them has it
    choices: tuple[str, ...] = ()
    option: Option | None = None  # the laptop's; a cluster's users have `--param` as well
    was: str = ""  # its name in older compiled pipelines; their runs, schedules and files go on under that

    @property
    def kind(self) -> type:
        """Its type: str, int, float, dict or list."""
        return type(self.default)

    @property
    def steps(self) -> tuple[str, ...]:
        """The steps that it is for, in the order they run."""
        given = {*self.to, *self.pod} - {"snapshot"}
        return tuple(step for step in STEPS if step in (self.only_for or given))

    def value_in(self, given: Mapping[str, Any]) -> Any:
        """Its value among a run's arguments, also of a pipeline that has its old name; None where it has none."""
        return given.get(self.name, given.get(self.was))


CPU = "CPU limit of its pod, in Kubernetes' notation: 2 or 500m"
MEMORY = "memory limit of its pod, in Kubernetes' notation: 8Gi"
GPUS = "how many GPUs its pod gets: 0 or 1"

# In the order of the laptop's help. A row that code must know by what it means has a name in Python as well.
PARAMETERS = (
    CATEGORY := Parameter(
        "category",
        "plates",
        "what to train on, like desk",
        to={"snapshot": "category", "record": "category", "test": "category"},
        only_for=STEPS,
        option=Option("--category"),
    ),
    ANNOTATION_VERSION := Parameter(
        "annotation_version",
        "",
        "the annotation version that becomes a dataset",
        empty="the newest",
        to={"snapshot": "annotation_version"},
        only_for=("record",),
        option=Option("--annotation-version", metavar="V"),
    ),
    RECIPE := Parameter(
        "recipe",
        {},
        "replaces values in the category's recipe, like seed=3 or near_duplicates=null",
        to={"snapshot": "recipe", "record": "recipe"},
        option=Option("--recipe", metavar="KEY=VALUE", example="seed=3"),
    ),
    CONFIG := Parameter(
        "train_config",
        "",
        "a config in shared_volume/custom/configs or shared_volume/configs",
        empty="the task's own",
        to={"snapshot": "config", "train": "config"},
        option=Option("--config"),
        was="config",
    ),
    OVERRIDES := Parameter(
        "train_overrides",
        {},
        "replaces values in the config, like optim_wrapper.optimizer.lr=0.002; +KEY=VALUE adds one",
        to={"snapshot": "overrides", "train": "overrides"},
        option=Option("--set", metavar="KEY=VALUE", example="optim_wrapper.optimizer.lr=0.002"),
        was="overrides",
    ),
    EPOCHS := Parameter(
        "train_epochs",
        0,
        "how many epochs to train",
        empty="the config's",
        to={"snapshot": "epochs", "train": "epochs"},
        option=Option("--epochs"),
        was="epochs",
    ),
    PRETRAINED := Parameter(
        "train_pretrained",
        "",
        "trained weights to begin from: a file, gs://…, https://…, a model, mmdet::NAME, auto or lite0",
        empty="the config's load_from, else random weights",
        to={"snapshot": "pretrained"},
        only_for=("train",),
        option=Option("--pretrained", metavar="WHERE"),
    ),
    Parameter(
        "train_pretrained_fit",
        "half",
        "how much of the model the trained weights must fit at least",
        to={"train": "pretrained_fit"},
        choices=("half", "any"),
        option=Option("--pretrained-fit"),
    ),
    RESUME_FROM := Parameter(
        "train_resume_from",
        "",
        "the run whose training goes on, with more epochs: its id or the beginning of that, or latest",
        to={"snapshot": "resume_from"},
        only_for=("train",),
        option=Option("--resume-from", metavar="RUN"),
    ),
    SELECT_BY := Parameter(
        "evaluate_select_by",
        "",
        "the metric by which the best model is chosen",
        empty="the task's own",
        to={"snapshot": "select_by", "train": "select_by", "evaluate": "select_by"},
        option=Option("--select-by", metavar="METRIC"),
        was="select_by",
    ),
    Parameter(
        "evaluate_split",
        "test",
        "the split that evaluate scores on",
        to={"evaluate": "split"},
        choices=("train", "val", "test"),
        option=Option("--split"),
        was="evaluation_split",
    ),
    CANDIDATE_MODELS := Parameter(
        "evaluate_candidates",
        [],
        "a further model bundle for evaluate to compare",
        to={"snapshot": "candidate_models", "evaluate": "candidates"},
        option=Option("--candidate", metavar="URI"),
        was="candidate_models",
    ),
    TEST_IMAGES := Parameter(
        "test_images",
        "",
        "test on the images in this folder or gs:// prefix",
        empty="the test split",
        to={"snapshot": "test_images", "test": "images"},
        option=Option("--images", metavar="PLACE"),
    ),
    Parameter(
        "test_score_threshold",
        0.3,
        "the lowest score that test still draws",
        to={"test": "score_threshold"},
        option=Option("--score-threshold", metavar="S"),
        was="score_threshold",
    ),
    DEVICE := Parameter(
        "device",
        "",
        "cpu, cuda, …",
        empty="a GPU when there is one",
        to={"train": "device", "evaluate": "device", "test": "device"},
        option=Option("--device"),
    ),
    Parameter(
        "train_on_out_of_memory",
        "shrink",
        "when memory runs out, train on with smaller parts of each batch, or fail",
        to={"train": "on_out_of_memory"},
        choices=("shrink", "fail"),
        option=Option("--on-out-of-memory"),
        was="on_out_of_memory",
    ),
    DATASET_VERSION := Parameter(
        "dataset_version",
        "",
        "the dataset version to use when record is left out",
        to={"snapshot": "dataset_version"},
        only_for=("train", "evaluate", "test"),
        not_with=("record",),
        option=Option("--dataset-version", metavar="V"),
    ),
    MODEL := Parameter(
        "test_model",
        "",
        "the model bundle to use when train is left out",
        to={"snapshot": "model", "test": "model_uri"},
        not_with=("train", "evaluate"),
        option=Option("--model", metavar="URI"),
        was="model",
    ),
    Parameter("record_cpu", "2", CPU, pod={"record": "cpu"}),
    Parameter("record_memory", "2Gi", MEMORY, pod={"record": "memory"}),
    Parameter("train_cpu", "2", CPU, pod={"train": "cpu"}),
    TRAIN_MEMORY := Parameter("train_memory", "4Gi", MEMORY, pod={"train": "memory"}),
    Parameter("train_gpus", "0", GPUS, to={"snapshot": "train_gpus"}, pod={"train": "gpus"}),
    Parameter("evaluate_cpu", "2", CPU, pod={"evaluate": "cpu"}),
    Parameter("evaluate_memory", "4Gi", MEMORY, pod={"evaluate": "memory"}),
    Parameter("evaluate_gpus", "0", GPUS, to={"snapshot": "evaluate_gpus"}, pod={"evaluate": "gpus"}),
    Parameter("test_cpu", "2", CPU, pod={"test": "cpu"}),
    Parameter("test_memory", "4Gi", MEMORY, pod={"test": "memory"}),
    Parameter("test_gpus", "0", GPUS, to={"snapshot": "test_gpus"}, pod={"test": "gpus"}),
    Parameter(
        "pod_node_selector",
        {},
        'labels that a node must have for pods to run there, like {"cloud.google.com/gke-accelerator": "nvidia-l4"}',
        pod=dict.fromkeys(STEPS, "node_selector"),
        only_for=STEPS,
        was="node_selector",
    ),
    Parameter(
        "pod_tolerations",
        [],
        'tolerations: node taints that do not keep pods away, like [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]',
        pod=dict.fromkeys(STEPS, "tolerations"),
        only_for=STEPS,
        was="tolerations",
    ),
)


def parameters_of(steps: Collection[str]) -> tuple[Parameter, ...]:
    """The parameters that a pipeline of these steps has."""
    return tuple(
        each for each in PARAMETERS if not set(each.steps).isdisjoint(steps) and set(each.not_with).isdisjoint(steps)
    )


def as_markdown() -> str:
    """The table for docs/steps.md."""
    rows = ["| parameter | option | of | default | meaning |", "|---|---|---|---|---|"]
    for each in PARAMETERS:
        option = f"`{each.option.flag}`" if each.option else ""
        steps = "all" if each.steps == STEPS else ", ".join(each.steps)
        default = f"`{each.default}`" if each.default else each.empty
        choices = f": {', '.join(f'`{choice}`' for choice in each.choices)}" if each.choices else ""
        rows.append(f"| `{each.name}` | {option} | {steps} | {default} | {each.help}{choices} |")
    return "\n".join(rows)
