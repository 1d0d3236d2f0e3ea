"""The networks that are covered: each as a plan names it, on the smallest items that it takes."""

from __future__ import annotations

from dataclasses import dataclass, field

from policies.data_contract import DataContract, Image
from policies.network_arguments import Arguments
from policies.training import Network


def image_data(*sides_px: int, mask: bool = False) -> DataContract:
    depth, height, width = (None, *sides_px) if len(sides_px) == 2 else sides_px
    return DataContract(
        image=Image(depth_px=depth, height_px=height, width_px=width, modalities=("CT",)),
        target="mask" if mask else "label",
        labels=(0, 1),
        minimum_patients=1,
        held_out_fraction=0.2,
    )


@dataclass(frozen=True)
class Covered:
    name: str
    data: DataContract
    arguments: Arguments = field(default_factory=dict)
    norms: int = 0
    """Batch norms that are replaced."""
    frozen: tuple[str, ...] = ()
    """Ends of the paths of parameters that are not trained."""
    out_of_place: bool = False

    @property
    def network(self) -> Network:
        return Network(name=self.name, norm_groups=4, arguments=self.arguments)

    @property
    def label(self) -> str:
        return f"{self.name}-{len(self.data.shape) - 1}d"


_UNET: Arguments = {"channels": [4, 8, 8], "strides": [2, 2], "num_res_units": 1}

COVERED = (
    Covered("SmallConvNet", image_data(28, 28)),
    Covered("Classifier", image_data(16, 16), {"channels": [4, 4], "strides": [2, 2]}, norms=1),
    Covered("DenseNet121", image_data(32, 32), norms=121),
    Covered("ResNet18", image_data(32, 32), {"widen_factor": 0.25}, norms=20, out_of_place=True),
    Covered("ResNet18", image_data(16, 16, 16), {"widen_factor": 0.25}, norms=20, out_of_place=True),
    Covered("UNet", image_data(16, 16, mask=True), _UNET),
    Covered("UNet", image_data(16, 16, 16, mask=True), _UNET),
    Covered("BasicUNet", image_data(32, 32, mask=True), {"features": [4, 4, 4, 4, 4, 4]}),
    Covered("SegResNet", image_data(16, 16, 16, mask=True), {"init_filters": 8}, out_of_place=True),
    Covered(
        "AttentionUnet",
        image_data(16, 16, mask=True),
        {"channels": [4, 8], "strides": [2]},
        norms=8,
    ),
    Covered(
        "EfficientNetBN", image_data(32, 32), {"model_name": "efficientnet-b0"}, norms=49, out_of_place=True
    ),
)
_VIT = Covered(
    "ViT",
    image_data(16, 16),
    {"patch_size": 8, "hidden_size": 16, "mlp_dim": 32, "num_layers": 2, "num_heads": 2},
    frozen=("cls_token", "position_embeddings", "norm_cross_attn.weight", "norm_cross_attn.bias"),
)
COVERED = (*COVERED, _VIT)
