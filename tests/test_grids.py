import numpy as np

from h2d.grids import GAP, HEADER, labelled_grid, mosaic


def test_a_table_shows_every_picture_in_its_place():
    red, mask = np.full((8, 8, 3), (255, 0, 0), np.uint8), np.full((8, 8), 255, np.uint8)
    grid = labelled_grid([[red, mask], [mask, red]], ["red", "mask"], cell=16)
    assert grid.shape == (HEADER + 2 * (16 + GAP), GAP + 2 * (16 + GAP), 3)
    assert grid[HEADER + 8, GAP + 8].tolist() == [255, 0, 0]
    assert grid[HEADER + 16 + GAP + 8, GAP + 16 + GAP + 8].tolist() == [255, 0, 0]
    assert (grid[:HEADER] < 128).any(), "labels are written"


def test_a_mosaic_is_always_a_square_of_the_size():
    picture = np.full((8, 8, 3), 7, np.uint8)
    for count in range(6):
        sheet = mosaic([picture] * count, 24)
        assert sheet.shape == (24, 24, 3)
        assert (sheet == 7).any() == (count > 0)
