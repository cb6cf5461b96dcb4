"""The device that tests of rendering run on: a GPU where one is at hand, else the CPU; ``ATELIER_TEST_DEVICE`` names another."""

from __future__ import annotations

import os

import torch

DEVICE = os.environ.get("ATELIER_TEST_DEVICE") or ("cuda:0" if torch.cuda.is_available() else "cpu")
