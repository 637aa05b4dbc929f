"""A configuration that trains in seconds, for the tests of components and pipelines."""

TINY = [
    *("data.synthetic.train_images=4", "data.synthetic.val_images=3", "data.synthetic.height=64"),
    *("data.synthetic.width=128", "training.reference_batch=2", "training.iterations=2"),
    *("training.log_interval=1", "evaluation.strips=1", "model.fpn_channels=16"),
    *("model.mask_channels=16", "model.semantic_channels=[16]"),
]
