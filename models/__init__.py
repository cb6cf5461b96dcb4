"""Pipelines, networks, schedulers, backends and training."""

from __future__ import annotations

import logging

#: What importing diffusers logs, by logger, because torchao is there or torchvision is not: nothing that somebody could mend here.
NOISE = {
    "torch.utils._pytree": "is an Enum subclass and is now natively supported",
    "transformers.utils.import_utils": "requires torchvision (not installed); falling back to",
    "diffusers.quantizers.torchao.torchao_quantizer": "Unable to import `torchao` Tensor objects",
}


def _mute(logger: logging.Logger, words: str) -> None:
    logger.addFilter(lambda record: words not in str(record.msg))


for _name, _words in NOISE.items():
    _mute(logging.getLogger(_name), _words)
