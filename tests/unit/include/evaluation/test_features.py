from __future__ import annotations

import numpy as np

from include.evaluation.features import CELLS, ORIENTATIONS, colour_edge_features


def test_one_row_an_image_of_colours_and_edges() -> None:
    assert colour_edge_features(np.zeros((3, 16, 16, 3), np.uint8)).shape == (3, CELLS**2 * (3 + ORIENTATIONS))


def test_colour_counts() -> None:
    images = np.zeros((2, 16, 16, 3), np.uint8)
    images[0, ..., 0], images[1, ..., 2] = 255, 255
    red, blue = colour_edge_features(images)
    assert np.abs(red - blue).max() == 1


def test_upright_and_level_edges_differ() -> None:
    image = np.zeros((1, 16, 16, 3), np.uint8)
    image[:, :, 8:] = 255
    upright, level = colour_edge_features(np.concatenate([image, image.transpose(0, 2, 1, 3)]))[:, CELLS**2 * 3 :].reshape(
        2, -1, ORIENTATIONS
    )
    assert upright.sum(axis=0).argmax() != level.sum(axis=0).argmax()
