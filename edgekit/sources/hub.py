"""Checkpoints of the Hugging Face hub: brought here first, then opened like any local folder."""

from __future__ import annotations

import re
from pathlib import Path

from edgekit.core.errors import ConfigError, SourceError

_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?\Z")
_SMALL = ["*.json", "*.txt", "*.model", "*.md", "LICENSE*", "LICENCE*", "COPYING*", "NOTICE*"]
_CODE = ["*.py"]


def is_hub_id(spec: str) -> bool:
    """Whether `spec` is written like a model id of the hub: `name` or `owner/name`."""
    return bool(_ID.match(spec)) and ".." not in spec and "--" not in spec


def fetch(spec: str, revision: str | None, *, code: bool) -> tuple[Path, str | None]:
    """The local folder of a hub model and its commit; downloads what the cache does not hold.

    Only safetensors are fetched where the model has them, and Python files only when `code`.

    Raises:
        ConfigError: there is no such model or revision, or no folder and no network either.
        SourceError: the model is gated.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        # One request without retries: a mistyped folder name must not wait for a network.
        listed = HfApi().model_info(spec, revision=revision, timeout=20).siblings or []
        safe = any(entry.rfilename.endswith(".safetensors") for entry in listed)
        weights = "*.safetensors" if safe else "*.bin"
        patterns = [*_SMALL, weights, *(_CODE if code else [])]
        folder = Path(snapshot_download(spec, revision=revision, allow_patterns=patterns))
    except GatedRepoError as error:
        raise SourceError(
            f"The model {spec} is gated on the Hugging Face hub.",
            hint="Accept its terms on the model's page and log in with: hf auth login",
        ) from error
    except RepositoryNotFoundError as error:
        raise ConfigError(
            f"There is neither a folder {spec!r} here nor a model of that id on the hub.",
            hint="Check the path or the id; a private model needs: hf auth login",
        ) from error
    except RevisionNotFoundError as error:
        raise ConfigError(
            f"The model {spec} has no revision {revision!r}.", hint="Check --revision."
        ) from error
    except Exception as error:
        # No network: what an earlier run left in the cache serves as well.
        try:
            folder = Path(snapshot_download(spec, revision=revision, local_files_only=True))
        except LocalEntryNotFoundError:
            raise ConfigError(
                f"There is no folder {spec!r} here, and the Hugging Face hub was not reached"
                f" ({type(error).__name__}).",
                hint="Check the path, or download the model first and give its folder.",
            ) from error
    commit = folder.name if re.fullmatch(r"[0-9a-f]{40}", folder.name) else None
    return folder, commit
