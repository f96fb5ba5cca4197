import pytest
import torch

from re2pix_node.nets.dino_foresight.dpt import DptHead
from re2pix_node.nets.dino_foresight.pca import PcaBasis
from re2pix_node.nets.masks import Masks
from tests.support import reference
from tests.support import small_checkpoints as files


def make() -> tuple[DptHead, files.Tensors]:
    torch.manual_seed(3)
    tensors = reference.part(files.head_tensors(), "head.")
    head = DptHead(19, [files.VIT] * 4, files.FUSED, files.OUT).eval()
    head.load_state_dict(tensors)  # strict: the names are those of the published files
    return head, tensors


@pytest.mark.parametrize("grid", [(4, 6), (5, 7)])
@pytest.mark.parametrize("folded", [False, True])
@torch.inference_mode()
def test_logits_are_those_of_the_plain_head(grid: tuple[int, int], folded: bool) -> None:
    head, tensors = make()
    maps = [torch.randn(2, files.VIT, *grid) for _ in range(4)]
    if folded:
        head.fold_norms()
        assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in head.modules())
    logits = head(maps)
    assert tuple(logits.shape) == (2, 19, 8 * grid[0], 8 * grid[1])
    torch.testing.assert_close(logits, reference.dpt(tensors, maps), rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_projections_take_the_basis_as_if_it_were_inverted_first() -> None:
    head, _ = make()
    tensors = files.forecaster_tensors()
    basis = PcaBasis(*(tensors[name].double() for name in ("mean", "std", "pca_mean", "pca_components")))
    features = torch.randn(4, 6, files.CHANNELS)
    wanted = [p(layer) for p, layer in zip(head.projects, reference.layers_of(tensors, features), strict=True)]
    folded = basis.before_projections(head.projects)
    for projection, y in zip(folded, wanted, strict=True):
        torch.testing.assert_close(projection(features.permute(2, 0, 1)[None]), y, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_masks_carry_the_manifest_ids_and_the_chance_of_the_winner() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 0.0], [0.0, 5.0]]).T.reshape(1, 2, 1, 3)
    labels, confidence = Masks([7, 200], (1, 3))(logits)
    assert labels.tolist() == [[[7, 7, 200]]]
    chances = [1 / (1 + 2.718281828**-2), 0.5, 1 / (1 + 2.718281828**-5)]
    assert confidence.tolist() == [[[round(255 * chance) for chance in chances]]]
    assert labels.dtype == confidence.dtype == torch.uint8
    _, modest = Masks([7, 200], (1, 3), temperatures=[4.0])(logits)
    assert modest[0, 0, 2] < confidence[0, 0, 2]


@torch.inference_mode()
def test_masks_are_enlarged_before_they_are_decided() -> None:
    labels, confidence = Masks([0, 1], (1, 4))(torch.tensor([[[[1.0, -4.0]], [[0.0, 0.0]]]]))
    assert labels.tolist() == [[[0, 1, 1, 1]]]  # the border lies where the enlarged logits cross, not halfway
    assert confidence[0, 0, 0] == round(255 / (1 + 2.718281828**-1))


@torch.inference_mode()
def test_half_precision_logits_do_not_overflow() -> None:
    labels, confidence = Masks([0, 1], (1, 1))(torch.tensor([[[[60000.0]], [[-60000.0]]]], dtype=torch.float16))
    assert (labels.item(), confidence.item()) == (0, 255)
