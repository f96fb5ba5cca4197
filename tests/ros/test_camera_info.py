"""Points projected into the masks by the scaled calibration, against those projected into the image by its own."""

import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo, RegionOfInterest

from re2pix_node.errors import Re2pixError
from re2pix_node.imaging.geometry import Region, fit_frame
from re2pix_node.ros.camera_info import scaled

POINTS = np.random.default_rng(5).uniform((-4, -2, 3), (4, 2, 30), (40, 3))
K = np.array([[800.0, 1.5, 641.25], [0, 790.0, 355.75], [0, 0, 1]])
P = np.array([[760.0, 0, 630.5, -95.0], [0, 770.0, 361.0, 12.0], [0, 0, 1, 0]])


def camera(width: int = 1280, height: int = 720, **fields) -> CameraInfo:
    message = CameraInfo(width=width, height=height, distortion_model="plumb_bob", d=[0.1, -0.2, 0.01, 0.02, 0.3])
    message.k, message.p, message.r = K.reshape(-1), P.reshape(-1), np.eye(3).reshape(-1)
    message.header.frame_id = "camera_optical"
    message.header.stamp.sec = 12
    for name, value in fields.items():
        setattr(message, name, value)
    return message


def projected(matrix: np.ndarray) -> np.ndarray:
    """Pixels of the points, whole numbers at the centres of pixels, by a K or a P."""
    points = POINTS if matrix.shape[1] == 3 else np.hstack([POINTS, np.ones((len(POINTS), 1))])
    u, v, w = matrix @ points.T
    return np.stack([u / w, v / w], axis=1)


def in_image(region: Region, pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Where ImageRegion.msg has pixels of a mask in the image; whole numbers are the centres of pixels in both."""
    u, v = pixels.T
    x = region.x + (u + 0.5) * region.width / width
    y = region.y + (v + 0.5) * region.height / height
    return np.stack([x, y], axis=1) - 0.5


def matrices(message: CameraInfo) -> tuple[np.ndarray, np.ndarray]:
    return np.reshape(message.k, (3, 3)), np.reshape(message.p, (3, 4))


@pytest.mark.parametrize("fit", ["crop", "stretch", "pad"])
@pytest.mark.parametrize(("height", "width"), [(224, 448), (56, 112), (300, 200)])
def test_points_land_where_the_region_says(fit: str, height: int, width: int) -> None:
    _, region = fit_frame(np.zeros((720, 1280, 3), np.uint8), 224, 448, fit)
    made = scaled(camera(), region, height, width)
    for before, after in zip((K, P), matrices(made), strict=True):
        expected = projected(before)
        assert np.abs(in_image(region, projected(after), height, width) - expected).max() < 1e-9
        assert np.array_equal(after[2], before[2])
    assert (made.height, made.width) == (height, width)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("field", ["k", "p", "r", "d"])
def test_a_calibration_that_is_not_finite_is_refused(field: str, value: float) -> None:
    message = camera()
    values = [float(number) for number in getattr(message, field)]
    values[2] = value
    setattr(message, field, values)
    with pytest.raises(Re2pixError, match=f"camera_info has NaN or infinity in {field.upper()}"):
        scaled(message, Region(1280, 720, 0.0, 0.0, 1280.0, 720.0), 360, 640)


def test_the_image_itself_is_left_as_it_is() -> None:
    made = scaled(camera(), Region(1280, 720, 0.0, 0.0, 1280.0, 720.0), 720, 1280)
    assert made == camera()


def test_a_square_of_pixels_becomes_one() -> None:
    # By hand: halved, the pixels 0 and 1 become pixel 0, so their common edge at 0.5 comes to lie at its centre.
    made = scaled(camera(), Region(1280, 720, 0.0, 0.0, 1280.0, 720.0), 360, 640)
    assert made.k[2] == (641.25 - 0.5) / 2
    assert made.k[0] == 400.0
    assert made.p[3] == -95.0 / 2
    assert made.p[7] == 12.0 / 2


def test_the_rest_is_kept_and_the_original_untouched() -> None:
    original = camera()
    made = scaled(original, Region(1280, 720, 0.0, 40.0, 1280.0, 640.0), 224, 448)
    assert original == camera()
    assert type(made) is CameraInfo
    assert made.header == original.header
    assert made.distortion_model == "plumb_bob"
    assert made.d == original.d
    assert np.array_equal(made.r, original.r)


@pytest.mark.parametrize("binning", [(1, 1), (2, 2), (4, 2)])
@pytest.mark.parametrize("window", [(0, 0, 0, 0), (100, 60, 800, 480)])
def test_binning_and_regions_of_interest(binning: tuple[int, int], window: tuple[int, int, int, int]) -> None:
    left, top, width, height = window
    roi = RegionOfInterest(x_offset=left, y_offset=top, width=width, height=height, do_rectify=width > 0)
    message = camera(binning_x=binning[0], binning_y=binning[1], roi=roi)
    image_width, image_height = (width or 1280) // binning[0], (height or 720) // binning[1]
    _, region = fit_frame(np.zeros((image_height, image_width, 3), np.uint8), 100, 200, "crop")
    made = scaled(message, region, 100, 200)
    assert made.roi == RegionOfInterest()
    assert (made.binning_x, made.binning_y) == (0, 0)
    for before, after in zip((K, P), matrices(made), strict=True):
        # An image pixel covers `binning` pixels of the sensor, from the window's corner on.
        in_pixels = in_image(region, projected(after), 100, 200)
        on_sensor = (in_pixels + 0.5) * binning + (left, top) - 0.5
        assert np.abs(on_sensor - projected(before)).max() < 1e-9


def test_an_uncalibrated_camera_stays_uncalibrated() -> None:
    made = scaled(CameraInfo(width=640, height=480), Region(640, 480, 0.0, 80.0, 640.0, 320.0), 224, 448)
    assert not np.any(made.k)
    assert not np.any(made.p)
    assert (made.width, made.height) == (448, 224)


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ({}, "1280 x 720"),
        ({"binning_x": 2, "binning_y": 2}, "640 x 360"),
        ({"roi": RegionOfInterest(width=600, height=400)}, "600 x 400"),
    ],
)
def test_a_calibration_of_other_images_is_refused(fields: dict, size: str) -> None:
    with pytest.raises(Re2pixError, match=f"^camera_info is for images of {size}, and these are 1920 x 1080: "):
        scaled(camera(**fields), Region(1920, 1080, 0.0, 0.0, 1920.0, 1080.0), 224, 448)
