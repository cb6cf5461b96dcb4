"""One module of a pipeline from its directory, with every weight from the files.

Where files lack a weight, diffusers and transformers say so in a log and go on with whatever the memory held, or with random numbers: a
version that was exported badly would render something else on each worker.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

NAMED = 3  #: missing weights that an error names


def load_module(kind: Any, directory: Path, **how: Any) -> nn.Module:
    """Safetensors only, nothing fetched.

    :param kind: a class with diffusers' or transformers' ``from_pretrained``; ``how`` goes to that
    :raises ValueError: the files lack weights that the module has
    """
    module, found = kind.from_pretrained(str(directory), local_files_only=True, use_safetensors=True, output_loading_info=True, **how)
    missing = sorted(found["missing_keys"])
    if missing:
        more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
        raise ValueError(f"{directory.name}: its files lack the weights {', '.join(missing[:NAMED])}{more}; export the version anew")
    loaded: nn.Module = module.eval()
    return loaded.requires_grad_(False)
