"""From layers to features: folded layers equal the originals, and the carried picture equals the picture."""

import numpy as np
import pytest
import torch

from re2pix_node.nets.backbones.mobilesam import MobileSamEncoder
from re2pix_node.nets.features import CARRIED, FeatureBasis, FeatureEncoder, raw_channels, raw_features, small_picture


def basis(layers: tuple[str, ...], cell: int, channels: int = 12) -> FeatureBasis:
    rng = np.random.default_rng(0)
    raw = raw_channels(MobileSamEncoder(), layers)
    components = np.linalg.qr(rng.standard_normal((raw, channels)))[0].T.astype(np.float32)
    mean, spread = rng.standard_normal(raw, np.float32), rng.uniform(0.5, 2, raw).astype(np.float32)
    return FeatureBasis(layers, cell, mean, spread, components, 0.7, 0.9)


@pytest.mark.parametrize(("layers", "cell"), [(("stage1", "neck"), 8), (("stage1", "stage2"), 16)])
def test_features_are_standardised_projected_and_scaled(layers: tuple[str, ...], cell: int) -> None:
    torch.manual_seed(0)
    backbone, known = MobileSamEncoder().eval(), basis(layers, cell)
    frames = torch.randint(0, 256, (2, 64, 96, 3), dtype=torch.uint8)
    with torch.inference_mode():
        raw = raw_features(backbone, frames, layers, cell).numpy()
        found = FeatureEncoder(backbone, known, picture=False)(frames).numpy()
    expected = (raw - known.mean) / known.std @ known.components.T * known.scale
    assert found.shape == (2, 64 // cell, 96 // cell, 12)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_the_picture_follows_the_features() -> None:
    encoder = FeatureEncoder(MobileSamEncoder().eval(), basis(("stage1",), 8), picture=True)
    frames = torch.randint(0, 256, (1, 64, 96, 3), dtype=torch.uint8)
    with torch.inference_mode():
        found = encoder(frames)
    assert found.shape[-1] == encoder.channels == 12 + CARRIED
    torch.testing.assert_close(found[..., 12:].permute(0, 3, 1, 2), small_picture(frames, 8))


def test_the_picture_is_grey_pixels_of_a_cell_row_by_row() -> None:
    frame = torch.zeros((1, 16, 16, 3), dtype=torch.uint8)
    frame[0, 2:4, 12:14] = 255  # in cell (0, 1): row 1 and column 2 of its 4 x 4
    cells = small_picture(frame, 8)
    white = (cells > 0).nonzero().tolist()
    assert white == [[0, 1 * 4 + 2, 0, 1]]
    assert cells[0, 6, 0, 1].item() == pytest.approx(255 / 64 - 2, abs=1e-3)
    assert cells[0, 0, 1, 1].item() == -2


def test_a_basis_is_read_back_as_it_was_written() -> None:
    known = basis(("stage1", "neck"), 8)
    again = FeatureBasis.from_bytes(known.to_bytes())
    assert (again.layers, again.cell, again.scale, again.explained) == (known.layers, 8, 0.7, 0.9)
    for name in ("mean", "std", "components"):
        np.testing.assert_array_equal(getattr(again, name), getattr(known, name))
