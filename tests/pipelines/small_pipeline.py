"""A pipeline of the shape of ours, small enough to be compiled in each test session."""

from pathlib import Path

from kfp import compiler, dsl, kubernetes


@dsl.component(base_image="upsnet:0.1.0", install_kfp_package=False)
def configure(preset: str, variants: list) -> list:
    return [{"name": name} for name in variants]


@dsl.component(base_image="upsnet:0.1.0", install_kfp_package=False)
def train(variant: dict, workers: int) -> str:
    return str(variant)


@dsl.component(base_image="upsnet:0.1.0", install_kfp_package=False)
def compare(rows: list) -> str:
    return str(rows)


@dsl.pipeline(name="small")
def small(preset: str, variants: list, workers: int = 2, note: str = "", experiment: str = "") -> None:
    configured = configure(preset=preset, variants=variants)
    with dsl.ParallelFor(configured.output) as variant:
        trained = train(variant=variant, workers=workers)
        kubernetes.use_secret_as_env(trained, "s3-credentials", {"AWS_ACCESS_KEY_ID": "AWS_ACCESS_KEY_ID"})
    compare(rows=dsl.Collected(trained.output))


def compile_small_pipeline(path: Path) -> Path:
    """Writes the compiled pipeline."""
    compiler.Compiler().compile(small, str(path))
    return path
