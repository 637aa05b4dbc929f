"""The trained network as an MLflow model: what `mlflow models serve` runs, and how it is logged.

model.py       images in, segments out; knows nothing of MLflow
sources.py     what a request may name as an image
entry.py       the file that MLflow runs to load the model
packing.py     puts the model into MLflow, with all that it needs elsewhere
"""
