"""One Kubeflow component per step of the pipeline, and the Horovod launchers."""
