"""The rasteriser against the plain definitions of polygon and ellipse, pixel by pixel."""

from hypothesis import given, settings
from hypothesis import strategies as st

from upsnet.data.synthetic_canvas import Camera, Canvas, Dice, Light

SIXTEENTHS = st.integers(-10 * 16, 30 * 16).map(lambda value: value / 16)
CORNER = st.tuples(SIXTEENTHS, SIXTEENTHS)
WHITE = (255, 255, 255)


@settings(max_examples=60, deadline=None)
@given(a=CORNER, b=CORNER, c=CORNER)
def test_a_triangle_covers_the_pixels_whose_centre_it_holds(
    a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]
) -> None:
    canvas = Canvas(16, 20)
    canvas.polygon([a, b, c], WHITE, 5)
    for row in range(16):
        for column in range(20):
            sides = [_side(p, q, (column + 0.5, row + 0.5)) for p, q in ((a, b), (b, c), (c, a))]
            # An edge's columns are rounded to sixteenths: centres that close to it may go either way.
            lengths = [abs(q[1] - p[1]) / 16 for p, q in ((a, b), (b, c), (c, a))]
            clear = all(abs(side) > length for side, length in zip(sides, lengths, strict=True))
            inside = all(side > 0 for side in sides) or all(side < 0 for side in sides)
            if clear:
                assert (canvas.layers[row, column] == 5) == inside
                assert (canvas.image[row, column].tolist() == [255, 255, 255]) == inside


@settings(max_examples=60, deadline=None)
@given(center=CORNER, rx=st.integers(1, 15), ry=st.integers(1, 15))
def test_an_ellipse_covers_the_pixels_whose_centre_it_holds(
    center: tuple[float, float], rx: int, ry: int
) -> None:
    canvas = Canvas(16, 20)
    canvas.ellipse(center, (rx, ry), WHITE, 5)
    for row in range(16):
        for column in range(20):
            x, y = (column + 0.5 - center[0]) / rx, (row + 0.5 - center[1]) / ry
            if abs(x * x + y * y - 1) > 0.01:
                assert (canvas.layers[row, column] == 5) == (x * x + y * y < 1)


def test_what_is_painted_later_hides_what_was_there() -> None:
    canvas = Canvas(8, 8)
    canvas.polygon([(0, 0), (8, 0), (8, 8), (0, 8)], (10, 20, 30), 1)
    canvas.polygon([(2, 2), (6, 2), (6, 6), (2, 6)], (200, 100, 50), 2)
    assert (canvas.layers == 2).sum() == 16
    assert (canvas.layers[2:6, 2:6] == 2).all()
    assert canvas.image[2, 2].tolist() == [200, 100, 50]
    assert canvas.image[1, 2].tolist() == [10, 20, 30]


def test_a_shadow_darkens_and_leaves_the_layer() -> None:
    canvas = Canvas(4, 4)
    canvas.polygon([(0, 0), (4, 0), (4, 4), (0, 4)], (100, 200, 50), 3)
    canvas.shadow([(0, 0), (2, 0), (2, 4), (0, 4)], 60)
    assert canvas.image[0, 0].tolist() == [60, 120, 30]
    assert canvas.image[0, 3].tolist() == [100, 200, 50]
    assert (canvas.layers == 3).all()


def test_shapes_far_outside_paint_nothing() -> None:
    canvas = Canvas(4, 4)
    canvas.polygon([(1e9, 0), (2e9, 0), (2e9, 3)], WHITE, 1)
    canvas.polygon([(0, 90), (4, 90), (4, 99)], WHITE, 1)
    canvas.ellipse((-50, -50), (3, 3), WHITE, 1)
    assert not canvas.layers.any()


def test_at_twice_the_distance_things_are_half_as_tall() -> None:
    camera = Camera(center=50, horizon=40, focal=100, eye=1.6)
    heights = []
    for z in (5.0, 10.0):
        (_, foot), (_, head) = camera.project((1, 0, z)), camera.project((1, 1.8, z))
        heights.append(foot - head)
    assert heights == [36.0, 18.0]
    assert camera.project((3, 1.6, 1e9))[1] == 40


def test_the_sunny_side_is_brighter_and_distance_fades_to_haze() -> None:
    light = Light((1, 1, 1), 1, (200, 200, 200), 100, (0, 0, 255), (200, 200, 255), False)
    assert (
        light.on((100, 100, 100), 0, 1) > light.on((100, 100, 100), 0, 0) > light.on((100, 100, 100), 0, -1)
    )
    assert light.on((0, 0, 0), 50) == (50, 50, 50)
    assert light.on((0, 0, 0), 5000) == (100, 100, 100)


def test_dice_stay_in_their_ranges() -> None:
    dice = Dice(1, 2, 3)
    assert {dice.integer(2, 4) for _ in range(200)} == {2, 3, 4}
    assert all(-1 <= dice.uniform(-1, 3) < 3 for _ in range(200))
    assert 0.2 < sum(dice.chance(0.3) for _ in range(2000)) / 2000 < 0.4
    assert all(0 <= channel <= 255 for _ in range(50) for channel in dice.jitter((3, 128, 250), 20))


def _side(p: tuple[float, float], q: tuple[float, float], point: tuple[float, float]) -> float:
    return (q[0] - p[0]) * (point[1] - p[1]) - (q[1] - p[1]) * (point[0] - p[0])
