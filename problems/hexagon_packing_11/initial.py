"""Packs unit hexagons into a hexagon: rows of hexagons, far enough apart for any turn."""


# EVOLVE-BLOCK-START
def pack(count):
    """Returns a row (x, y, degrees) for the outer hexagon, and one for each inner hexagon."""
    columns, step_x, step_y, shift, turn = 4, 2.05, 2.05, 0.0, 10.0
    outer_turn, outer_x, outer_y = 0.0, 0.0, 0.0
    rows = [(outer_x, outer_y, outer_turn)]
    for i in range(count):
        row, column = divmod(i, columns)
        x = step_x * (column - 1.5) + shift * (row - 1)
        y = step_y * (row - 1)
        rows.append((x, y, turn))
    return rows


# EVOLVE-BLOCK-END
