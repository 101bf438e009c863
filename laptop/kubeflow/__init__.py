"""What a laptop does with Kubeflow Pipelines on a cluster: submit, schedule, runs, logs."""
