"""One place that keeps torch, transformers and torch.onnx from talking on our streams."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import warnings
from collections.abc import Iterator

_LOGGERS = (
    "torch.onnx",
    "torch.onnx._internal.exporter._registration",
    "torch.export",
    "torch._dynamo",
    "torch.fx.experimental.symbolic_shapes",
    "onnxscript",
    "onnx_ir",
    "transformers",
    "huggingface_hub",
)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hold back progress, log lines and warnings of the libraries inside the block.

    stdout belongs to our JSON, and torch.onnx prints its progress there. All settings are put
    back afterwards; errors are not held back, they are exceptions.
    """
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            _without_progress_bars(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


@contextlib.contextmanager
def _without_progress_bars() -> Iterator[None]:
    # Custom modules do without transformers: it is not imported for its switches.
    if "transformers" not in sys.modules:
        yield
        return
    from transformers.utils import logging as transformers_logging

    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()
