"""Lays one fingerprint over another: finds the shift, scale, turn and shear under which they agree, as far as they can."""

from __future__ import annotations

import numpy as np

from include.dataset.fingerprints import SIDE, luma

COARSE, COARSE_STEPS, FINE_STEPS = 2, 5, 2  #: averaging over so many pixels first, so that larger moves are found and cost less
HOPELESS = 0.2  #: part of the template's contrast that is still wrong after the coarse steps, from which the fine ones are not tried
MIN_SCALE, MAX_SCALE = 0.6, 1.6
DAMPING = 1e-3


def align(pictures: np.ndarray, templates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pictures resampled so that they lie on the templates.

    Lucas and Kanade (1981), with affine warps, for all pairs at once.

    :param pictures: (P, 32, 32, 3) float32, smoothed
    :param templates: as ``pictures``
    :return: (P, 32, 32, 3) float32, and (P, 32, 32) bool: where the template lies on the picture. Nowhere, where no credible warp is found.
    """
    warps = np.zeros((len(pictures), 6), np.float32)  # x' = x + a + b x + c y, y' = y + d + e x + f y, from -1 to 1
    hopeful = _climb(pictures, templates, warps, COARSE, COARSE_STEPS) & _credible(warps)
    if hopeful.any():
        fine = warps[hopeful]
        _climb(pictures[hopeful], templates[hopeful], fine, 1, FINE_STEPS)
        warps[hopeful] = fine
    moved, inside = _sampled(pictures, warps, _grid(SIDE))
    return moved, (inside & (hopeful & _credible(warps))[:, None]).reshape(-1, SIDE, SIDE)


def _climb(pictures: np.ndarray, templates: np.ndarray, warps: np.ndarray, factor: int, steps: int) -> np.ndarray:
    """Improves ``warps`` in place. Returns where it is worth going on."""
    moving, fixed = (_averaged(luma(stack), factor) for stack in (pictures, templates))
    grid = _grid(SIDE // factor)
    slopes = np.stack([np.gradient(moving, axis=2), np.gradient(moving, axis=1)], axis=3) * (SIDE / factor / 2)
    stack = np.concatenate([moving[..., None], slopes], axis=3)
    for _ in range(steps):
        warps += _step(stack, fixed, warps, grid)
    sampled, inside = _sampled(stack[..., :1], warps, grid)
    wrong = ((sampled[..., 0] - fixed).reshape(len(fixed), -1) * inside).std(axis=1)
    return np.asarray(wrong <= HOPELESS * fixed.reshape(len(fixed), -1).std(axis=1) + 1)


def _step(stack: np.ndarray, fixed: np.ndarray, warps: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """One Gauss-Newton step on the squared differences where the two overlap."""
    sampled, inside = _sampled(stack, warps, grid)
    values, slopes = sampled.reshape(len(fixed), -1, 3)[..., 0], sampled.reshape(len(fixed), -1, 3)[..., 1:]
    wrong = (fixed.reshape(len(fixed), -1) - values) * inside
    ones = np.concatenate([np.ones((len(grid), 1), np.float32), grid], axis=1)
    jacobian = (slopes[..., :, None] * ones[None, :, None, :]).reshape(len(fixed), len(grid), 6) * inside[..., None]
    normal = jacobian.transpose(0, 2, 1) @ jacobian
    trace = np.trace(normal, axis1=1, axis2=2)[:, None, None]
    normal += np.eye(6, dtype=np.float32) * (DAMPING * trace / 6 + 1e-3)
    right = jacobian.transpose(0, 2, 1) @ wrong[..., None]
    return np.clip(np.linalg.solve(normal, right)[..., 0], -0.2, 0.2)


def _sampled(stack: np.ndarray, warps: np.ndarray, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bilinear samples (P, M, C) of (P, S, S, C) at the warped points of the grid, shaped (P, S, S, C), and which are inside (P, M)."""
    count, side, _, channels = stack.shape
    x = grid[:, 0] + warps[:, 0:1] + warps[:, 1:2] * grid[:, 0] + warps[:, 2:3] * grid[:, 1]
    y = grid[:, 1] + warps[:, 3:4] + warps[:, 4:5] * grid[:, 0] + warps[:, 5:6] * grid[:, 1]
    inside = (np.abs(x) <= 1) & (np.abs(y) <= 1)
    column, row = (np.clip((axis + 1) * (side / 2) - 0.5, 0, side - 1.001) for axis in (x, y))
    left, top = column.astype(np.int32), row.astype(np.int32)
    right, down = (column - left)[..., None], (row - top)[..., None]
    flat = stack.reshape(-1, channels)
    first = (np.arange(count, dtype=np.int32)[:, None] * side + top) * side + left
    upper = _between(flat.take(first, axis=0), flat.take(first + 1, axis=0), right)
    lower = _between(flat.take(first + side, axis=0), flat.take(first + side + 1, axis=0), right)
    return _between(upper, lower, down).reshape(count, side, side, channels), inside


def _between(one: np.ndarray, other: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Written over ``other``."""
    other -= one
    other *= share
    other += one
    return other


def _grid(side: int) -> np.ndarray:
    """(side², 2): x and y of the pixels' centres, from -1 to 1, row by row."""
    centres = ((np.arange(side, dtype=np.float32) + 0.5) * 2 / side) - 1
    return np.stack(np.meshgrid(centres, centres), axis=2).reshape(-1, 2)


def _averaged(grey: np.ndarray, factor: int) -> np.ndarray:
    count, side, _ = grey.shape
    return grey.reshape(count, side // factor, factor, side // factor, factor).mean(axis=(2, 4)) if factor > 1 else grey


def _credible(warps: np.ndarray) -> np.ndarray:
    """Neither folded nor scaled, along any direction, beyond what a crop does."""
    matrices = np.eye(2, dtype=np.float32) + np.stack([warps[:, [1, 2]], warps[:, [4, 5]]], axis=1)
    stretches = np.linalg.svd(matrices, compute_uv=False)
    return (stretches[:, 1] >= MIN_SCALE) & (stretches[:, 0] <= MAX_SCALE) & (np.linalg.det(matrices) > 0)
