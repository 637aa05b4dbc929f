"""What runs on Kubeflow Pipelines, and the commands that compile it, run it, watch it and end it."""
