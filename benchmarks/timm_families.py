"""The smallest member of every family of timm's networks; of those that have no small one, with fewer blocks."""

from __future__ import annotations

#: Name, then keywords of `timm.create_model` as in `--arch`, and the size of the pictures where it is not 224.
FAMILIES: dict[str, int] = dict.fromkeys(
    (
        *("beit_base_patch16_224?depth=2", "cait_xxs24_224", "convit_tiny", "convmixer_768_32", "cpubone_nano"),
        *("cspnext_tiny", "coat_tiny", "davit_tiny", "deit_tiny_patch16_224", "densenet121", "dla46x_c", "dpn48b"),
        *("efficientformer_l1", "efficientformerv2_s0", "efficientvim_m1", "efficientvit_b0", "efficientvit_m0"),
        *("fasternet_t0", "focalnet_tiny_srf", "gcvit_xxtiny", "ghostnet_050", "hardcorenas_b", "hgnetv2_b0"),
        *("hiera_tiny_224", "hrnet_w18_small", "iformer_t", "inception_next_atto", "lcnetv2_small", "levit_128s"),
        *("lowformer_b0", "poolformerv2_s12", "gmlp_ti16_224", "mobilenetv3_small_050", "mvitv2_tiny"),
        *("nest_tiny", "nextvit_small", "pit_ti_224", "pvt_v2_b0", "rdnet_tiny", "regnetx_002"),
        *("repghostnet_050", "repvit_m1", "res2next50", "resnest14d", "resnetv2_18", "rexnet_100", "selecsls42"),
        *("legacy_seresnet18", "sequencer2d_s", "shvit_s1", "skresnet18", "starnet_s050", "swiftformer_xs"),
        *("swin_tiny_patch4_window7_224", "swinv2_cr_tiny_224", "tiny_vit_5m_224", "tnt_s_legacy_patch16_224"),
        *("tresnet_m", "twins_svt_small", "vgg11", "visformer_tiny", "vit_tiny_r_s16_p8_224"),
        *("samvit_base_patch16_224?depth=3", "vitamin_small_224", "volo_d1_224", "ese_vovnet19b_slim_dw"),
        "xcit_nano_12_p8_224",
    ),
    224,
) | {
    # Small members that timm made for its own tests.
    **dict.fromkeys(("test_byobnet", "test_convnext", "test_efficientnet", "test_mambaout", "test_coatnet"), 160),
    **dict.fromkeys(("test_nfnet", "test_resnet", "test_vit", "test_vit_relpos"), 160),
    **dict.fromkeys(("halonet_h1", "cs3darknet_focus_s", "edgenext_xx_small", "fastvit_t8", "mobilevit_xxs"), 256),
    **dict.fromkeys(("mobilenetv5_base", "swinv2_tiny_window16_256", "csatv2"), 256),
    **dict.fromkeys(("inception_resnet_v2", "inception_v3", "inception_v4", "legacy_xception"), 299),
    "xception41p": 299,
    "crossvit_tiny_240": 240,
    "vit_tiny_patch16_dinov3_qkvb": 256,
    "sam2_hiera_tiny": 224,
    "deepseek_vit_412m?depth=2": 224,
    "gemma4_vit_167m?depth=2": 192,
    "qwen3_vit_88m?depth=2": 192,
    "naflexvit_base_patch16_parfac_gap?depth=2": 224,
    "nasnetalarge": 224,
    "pnasnet5large": 224,
}  # fmt: skip
