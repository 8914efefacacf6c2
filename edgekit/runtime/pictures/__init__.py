"""Pictures in, tensors out: decoding and declarative operations, with Pillow and numpy alone."""

from __future__ import annotations

from edgekit.runtime.pictures.decoding import open_picture
from edgekit.runtime.pictures.processor import Encoded, PictureProcessor
from edgekit.runtime.pictures.rules import PictureRules, read_picture_rules

__all__ = ["Encoded", "PictureProcessor", "PictureRules", "open_picture", "read_picture_rules"]
