"""Prepared data under DVC: taken from the remote or the cache when they are there, else made and pushed.

The stage `prepare` of dvc.yaml runs in a scratch project: a clone of a data source at a revision, whose
dvc.lock may pin the data, or a copy of this program's own files. DVC's run cache knows what the same
configuration and code made before, on any machine that pushed to the same remote.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from upsnet.config import read_config
from upsnet.data.dvc_lock import OUTPUT, STAGE, locked_data
from upsnet.data.dvc_program import has_remote, run_dvc, run_program
from upsnet.data.prepare import prepare
from upsnet.data.shards import PreparedData
from upsnet.errors import DataError

PROGRAM = Path(__file__).resolve().parents[2]
"""Folder of this program, with dvc.yaml."""
REMOTE = "pipeline"
"""Name of a remote that is given by its address."""


@dataclass(frozen=True)
class VersionedData:
    """Prepared data and where it came from.

    Attributes:
        folder: where they lie.
        version: `PreparedData.version`, 12 hex digits of the content; checkpoints and MLflow runs hold it.
        dvc_hash: DVC's hash of the folder, from dvc.lock; empty without DVC.
        made: False if it was taken from the remote or the cache.
    """

    folder: Path
    version: str
    dvc_hash: str
    made: bool


def prepare_versioned(
    config: Path,
    out: Path,
    *,
    source: str = "",
    revision: str = "",
    remote: str = "",
    cache: Path | None = None,
) -> VersionedData:
    """Brings prepared data to `out`, with DVC where there is anything to take it from or to keep it in.

    Args:
        config: resolved config.yaml; what its `data` section says is prepared.
        out: new folder of the prepared data.
        source: git address or folder of a clone of this project that versions data; empty: this program.
        revision: its git revision; the data that its dvc.lock pins are taken if they are as configured.
        remote: address of the DVC remote; empty: the project's own, if it has one.
        cache: folder of a DVC cache to share; empty: none is kept.

    Raises:
        DataError: the source, revision or remote cannot be used, or the data are faulty.
    """
    if revision and not source:
        raise DataError(f"data revision {revision!r}: of which repository? Give the data source, too")
    if out.exists() and any(out.iterdir()):
        raise DataError(f"{out}: is not empty; choose a new folder for the prepared data")
    if not (source or remote or cache or has_remote(PROGRAM)):
        return VersionedData(out, prepare(read_config(config).data, out).version, "", True)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".dvc-") as scratch:
        project = Path(scratch) / "project"
        if source:
            _clone(source, revision, project)
        else:
            _copy(project)
        _set_up(project, remote, cache or Path(scratch) / "cache")
        shutil.copyfile(config, project / "runs" / "config.yaml")
        dvc_hash, made = _reproduce(project)
        if out.exists():
            out.rmdir()
        shutil.move(project / OUTPUT, out)
    return VersionedData(out, PreparedData(out).version, dvc_hash, made)


def _reproduce(project: Path) -> tuple[str, bool]:
    """Takes or makes the data, and pushes what was made; returns DVC's hash and whether they were made."""
    remote = has_remote(project)
    said = run_dvc(project, "repro", "--single-item", *(["--pull"] if remote else []), STAGE)
    made = f"Running stage '{STAGE}'" in said
    if made and remote:
        run_dvc(project, "push", "--run-cache", STAGE)
    locked = locked_data(project)
    assert locked is not None, "the stage was brought up to date"
    return locked.dvc_hash, made


def _clone(source: str, revision: str, project: Path) -> None:
    """Clones the source at a revision; its own code prepares its data."""
    address = str(Path(source).resolve()) if Path(source).is_dir() else source
    run_program(
        ["git", "clone", "--quiet", "--no-checkout", "--", address, str(project)], f"data source {source}"
    )
    where = f"data source {source}, revision {revision or 'HEAD'}"
    found = run_program(
        ["git", "-C", str(project), "rev-parse", "--verify", _commit(project, revision)], where
    )
    run_program(["git", "-C", str(project), "checkout", "--quiet", "--detach", found.strip()], where)
    if not (project / "dvc.yaml").is_file() or not (project / "upsnet").is_dir():
        raise DataError(f"{where}: has no dvc.yaml and upsnet/; expected a clone of this project")


def _commit(project: Path, revision: str) -> str:
    """The revision as the clone knows it, where branches are those of `origin`."""
    for name in (f"refs/remotes/origin/{revision}", revision or "HEAD"):
        tried = ["git", "-C", str(project), "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}"]
        if subprocess.run(tried, capture_output=True).returncode == 0:
            return f"{name}^{{commit}}"
    return f"{revision}^{{commit}}"


def _copy(project: Path) -> None:
    """Copies this program and how it uses DVC."""
    for name in ("dvc.yaml", "params.yaml", ".dvc/config", ".dvc/config.local"):
        if (PROGRAM / name).is_file():
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(PROGRAM / name, project / name)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PROGRAM / "upsnet", project / "upsnet", ignore=ignored)


def _set_up(project: Path, remote: str, cache: Path) -> None:
    """Remote and cache; the raw data of relative paths are where they are for this process."""
    from configobj import ConfigObj

    settings = ConfigObj(str(project / ".dvc" / "config.local"))
    core = settings.setdefault("core", {})
    if not (project / ".git").exists():
        core["no_scm"] = "true"
    if remote:
        core["remote"] = REMOTE
        address = str(Path(remote).resolve()) if "://" not in remote else remote
        settings[f'remote "{REMOTE}"'] = {"url": address}
    # The data may be large: not twice where the file system can.
    settings["cache"] = {"dir": str(cache.resolve()), "type": ["hardlink", "copy"]}
    settings.write()
    (project / "runs").mkdir(exist_ok=True)
    raw = Path("data").resolve()
    if raw.is_dir() and not (project / "data").exists():
        (project / "data").symlink_to(raw)
