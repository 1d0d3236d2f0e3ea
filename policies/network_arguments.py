"""What a plan may say to a network's class: names and values from closed sets, since a plan stands on the ledger and
has no room for free text.

The names are parameters of classes of `monai.networks.nets`. Missing on purpose: what follows from the data contract
(dimensions, channels, sizes, classes), and what reads files or fetches weights. Which class takes which is found out
when it is built (`tasks.train.networks`).
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

ArgumentName = Literal[
    "act", "activation", "adn_ordering", "bias", "bias_downsample", "block", "block_config", "block_inplanes",
    "blocks_down", "blocks_up", "bn_size", "channels", "conv1_t_size", "conv1_t_stride", "conv_block",
    "decoder_channels", "deep_supervision", "deep_supr_num", "depths", "dropout", "dropout_cattn", "dropout_dim",
    "dropout_prob", "dropout_prob_down", "dropout_prob_up", "dropout_rate", "drop_rate", "dsdepth", "feature_size",
    "features", "feed_forward", "filters", "final_conv_act", "growth_rate", "half_res", "hidden", "hidden_size",
    "init_features", "init_filters", "input_3x3", "is_pad", "kernel_size", "last_act", "last_conv_kernel_size",
    "layers", "mlp_dim", "mlp_ratio", "model_name", "no_max_pool", "norm", "norm_name", "num_channels", "num_filters",
    "num_groups", "num_heads", "num_layers", "num_res_blocks", "num_res_layers", "num_res_units", "patch_norm",
    "patch_size", "pool", "pos_embed_type", "post_activation", "pre_conv", "prevalence", "proj_type", "qkv_bias",
    "reduction",
    "res_block", "shortcut_type", "stride_conv", "stride_pool", "strides", "trans_bias", "up_kernel_size", "upsample",
    "upsample_kernel_size", "upsample_mode", "upsampling_mode", "use_combined_linear", "use_conv", "use_conv_final",
    "widen_factor", "window_size",
]  # fmt: skip

Word = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,30}$")]
Scalar: TypeAlias = bool | int | float | Word | None
Settings: TypeAlias = dict[Literal["num_groups", "affine", "negative_slope", "eps", "p", "inplace"], Scalar]
"""Of a layer named by a word, as in `norm: [group, {num_groups: 8}]`."""
Argument: TypeAlias = Scalar | list[Scalar | list[Scalar] | Settings]
Arguments: TypeAlias = dict[ArgumentName, Argument]
