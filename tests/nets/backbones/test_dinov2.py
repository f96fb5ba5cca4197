import pytest
import torch

from re2pix_node.nets.backbones.dinov2 import SIZES, DinoV2
from tests.support import reference
from tests.support import small_checkpoints as files


def vit_tensors(registers: bool) -> files.Tensors:
    torch.manual_seed(1)
    tensors = files.vit_tensors()
    return tensors if registers else {name: t for name, t in tensors.items() if name != "register_tokens"}


@pytest.mark.parametrize(("registers", "antialias", "offset"), [(2, True, 0.0), (0, False, 0.1)])
@pytest.mark.parametrize("grid", [(4, 6), (9, 11), (5, 5), (3, 3)])
@torch.inference_mode()
def test_every_layer_is_that_of_the_plain_model(
    registers: int, antialias: bool, offset: float, grid: tuple[int, int]
) -> None:
    tensors = vit_tensors(bool(registers))
    net = DinoV2(files.VIT, files.DEPTH, registers, files.STORED).eval()
    net.load_state_dict(tensors)  # strict: the names are those of the published files, mask_token and all
    images = torch.randn(2, 3, grid[0] * 14, grid[1] * 14)
    found = net(images, [0, 3])
    wanted = reference.vit(tensors, images, [0, 3], antialias, offset)
    assert [tuple(x.shape) for x in found] == [(2, *grid, files.VIT)] * 2
    for x, y in zip(found, wanted, strict=True):
        torch.testing.assert_close(x.flatten(1, 2), y, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_variants_differ_in_how_positions_are_fitted() -> None:
    tensors = vit_tensors(registers=False)
    net = DinoV2(files.VIT, files.DEPTH, 0, files.STORED).eval()
    net.load_state_dict(tensors)
    images = torch.randn(1, 3, 4 * 14, 3 * 14)
    other = reference.vit(tensors, images, [3], antialias=True, offset=0.0)[0]
    assert (net(images, [3])[0].flatten(1, 2) - other).norm() / other.norm() > 0.01


@pytest.mark.parametrize(
    # Counted from facebookresearch/dinov2's own models, by sum(p.numel() for p in model.parameters()).
    ("name", "registers", "parameters"),
    [
        ("vits14", 0, 22056576),
        ("vits14", 4, 22058112),
        ("vitb14", 0, 86580480),
        ("vitb14", 4, 86583552),
        ("vitl14", 0, 304368640),
        ("vitl14", 4, 304372736),
    ],
)
def test_sizes_are_the_published_ones(name: str, registers: int, parameters: int) -> None:
    with torch.device("meta"):
        net = DinoV2(*SIZES[name], registers)
    assert sum(parameter.numel() for parameter in net.parameters()) == parameters


@torch.inference_mode()
def test_folding_the_scales_changes_nothing() -> None:
    net = DinoV2(files.VIT, files.DEPTH, files.REGISTERS, files.STORED).eval()
    net.load_state_dict(vit_tensors(registers=True))
    images = torch.randn(1, 3, 56, 84)
    before = net(images, [1, 3])
    for block in net.blocks:
        block.fold_scales()
    assert not [name for name, _ in net.named_parameters() if "gamma" in name]
    for x, y in zip(net(images, [1, 3]), before, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-5)
