"""Transformers of every usual kind, built from small configs of Hugging Face's classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

#: Tokens, and what goes with them.
IDS, MASK = "input_ids=1x12:int64", "attention_mask=1x12:int64"
_SMALL = {"vocab_size": 200, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "use_cache": False}
_TEXT = _SMALL | {"num_attention_heads": 4, "max_position_embeddings": 64, "pad_token_id": 0}
#: Grouped queries: two for every key and value.
_GROUPED = _TEXT | {"num_key_value_heads": 2, "head_dim": 8}
_VISION = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
_PICTURE = _VISION | {"image_size": 32, "patch_size": 8}
_ENCODER_DECODER = {
    **{"vocab_size": 200, "d_model": 32, "use_cache": False, "pad_token_id": 0, "decoder_start_token_id": 0},
    **{"encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4},
    **{"encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_position_embeddings": 64},
}
_T5 = {"vocab_size": 200, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "use_cache": False}
_BOTH = (IDS, "decoder_input_ids=1x8:int64")
_CLIP = {"text_config": _TEXT | {"projection_dim": 16}, "vision_config": _PICTURE, "projection_dim": 16}
_SEGFORMER = {
    **{"num_encoder_blocks": 2, "depths": [2, 2], "sr_ratios": [4, 2], "hidden_sizes": [16, 32]},
    **{"patch_sizes": [7, 3], "strides": [4, 2], "num_attention_heads": [2, 4], "mlp_ratios": [2, 2]},
    "decoder_hidden_size": 32,
}
_WAV2VEC2 = {
    **_VISION,
    **{"vocab_size": 20, "conv_dim": [16, 16, 16], "conv_stride": [5, 4, 4], "conv_kernel": [10, 8, 4]},
    **{"num_feat_extract_layers": 3, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 4},
}
_WHISPER = {
    **_ENCODER_DECODER,
    **{"num_mel_bins": 16, "max_source_positions": 20, "max_target_positions": 16},
    **{"bos_token_id": 1, "eos_token_id": 2},
}

#: Name -> class, its config's keywords, and the inputs.
MODELS: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "bert": ("BertForSequenceClassification", _TEXT, (IDS, MASK)),
    "bert_masked": ("BertForMaskedLM", _TEXT, (IDS,)),
    "roberta": ("RobertaForTokenClassification", _TEXT, (IDS,)),
    "distilbert": (
        "DistilBertForQuestionAnswering",
        {"vocab_size": 200, "dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 4, "max_position_embeddings": 64},
        (IDS,),
    ),
    "electra": ("ElectraForSequenceClassification", _TEXT | {"embedding_size": 16}, (IDS,)),
    "gpt2": (
        "GPT2LMHeadModel",
        {"vocab_size": 200, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "use_cache": False},
        (IDS,),
    ),
    "llama": ("LlamaForCausalLM", _GROUPED, (IDS,)),
    "mistral": ("MistralForCausalLM", _GROUPED, (IDS,)),
    "qwen2": ("Qwen2ForCausalLM", _GROUPED, (IDS,)),
    "qwen3": ("Qwen3ForCausalLM", _GROUPED, (IDS,)),
    "gemma": ("GemmaForCausalLM", _GROUPED, (IDS,)),
    "phi3": ("Phi3ForCausalLM", _GROUPED, (IDS,)),
    "t5": ("T5ForConditionalGeneration", _T5, _BOTH),
    "t5_encoder": ("T5EncoderModel", _T5, (IDS,)),
    "bart": ("BartModel", _ENCODER_DECODER, _BOTH),
    "clip": ("CLIPModel", _CLIP, (IDS, "pixel_values=1x3x32x32")),
    "vit": ("ViTForImageClassification", _PICTURE, ("pixel_values=1x3x32x32",)),
    "dinov2": ("Dinov2ForImageClassification", _PICTURE, ("pixel_values=1x3x32x32",)),
    "segformer": ("SegformerForSemanticSegmentation", _SEGFORMER, ("pixel_values=1x3x64x64",)),
    "whisper_encoder": ("WhisperModel.get_encoder", _WHISPER, ("input_features=1x16x40",)),
    "whisper": ("WhisperModel", _WHISPER, ("input_features=1x16x40", "decoder_input_ids=1x8:int64")),
    "wav2vec2": ("Wav2Vec2ForCTC", _WAV2VEC2, ("input_values=1x1600",)),
    "hubert": ("HubertForCTC", _WAV2VEC2, ("input_values=1x1600",)),
}


def builder(name: str) -> Callable[[], nn.Module]:
    """What builds one of the models."""

    def build() -> nn.Module:
        import transformers

        path, keywords, _ = MODELS[name]
        kind, _, part = path.partition(".")
        made = getattr(transformers, kind)
        module = made(made.config_class(**keywords))
        return getattr(module, part)() if part else module

    return build
