"""Which options of a decoder's config.json are read, which have no effect; every other one is refused by name."""

from collections.abc import Mapping
from typing import Any

from chain.errors import Mismatch, OutOfRange
from pouw.compiler.llama_families import FAMILIES

ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu": "gelu",
    "relu": "relu",
}
GPT2_NAMES = {
    "n_embd": "hidden_size",
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "n_inner": "intermediate_size",
    "n_positions": "max_position_embeddings",
    "activation_function": "hidden_act",
    "layer_norm_epsilon": "rms_norm_eps",
}
WINDOWS = ("mistral", "phi3")  # see the last positions of a longer text only, where the configuration says so
ROPE_READ = frozenset(
    [
        "rope_type",
        "type",
        "rope_theta",
        "factor",
        "low_freq_factor",
        "high_freq_factor",
        "original_max_position_embeddings",
        "partial_rotary_factor",
    ]
)
READ = frozenset(
    [
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "vocab_size",
        "max_position_embeddings",
        "rms_norm_eps",
        "rope_theta",
        "tie_word_embeddings",
        "eos_token_id",
        "bos_token_id",
        "model_type",
        "architectures",
        "hidden_act",
        "attention_bias",
        "mlp_bias",
        "rope_scaling",
        "rope_parameters",
        "use_sliding_window",
        "sliding_window",
        "pretraining_tp",
        "hidden_activation",
        "partial_rotary_factor",
        "scale_attn_weights",
        "rope_interleaved",
    ]
)
WITHOUT_EFFECT = frozenset(
    [
        "_name_or_path",
        "attention_dropout",
        "initializer_range",
        "torch_dtype",
        "dtype",
        "transformers_version",
        "use_cache",
        "pad_token_id",
        "max_window_layers",
        "layer_types",
        "original_max_position_embeddings",
        "resid_pdrop",
        "embd_pdrop",
        "attn_pdrop",
        "n_ctx",
        "summary_type",
        "summary_use_proj",
        "summary_activation",
        "summary_proj_to_labels",
        "summary_first_dropout",
        "task_specific_params",
        "reorder_and_upcast_attn",
        "is_llama_config",
        "auto_map",
        "transformers.js_config",
        "output_attentions",
        "output_hidden_states",
        "return_dict",
        "is_encoder_decoder",
        "chunk_size_feed_forward",
        "id2label",
        "label2id",
        "problem_type",
    ]
)  # max_window_layers and layer_types say which layers have a window: texts are held shorter than it


class OptionUnmappable(Mismatch):
    """An option of config.json has no exact counterpart."""


class SizeOutOfRange(OutOfRange):
    """A size is beyond what is compiled."""


def check_options(config: Mapping[str, Any]) -> None:
    """Refuse what would change a value and is not mapped.

    Raises:
        OptionUnmappable.
    """
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise OptionUnmappable("model_type", kind, sorted(FAMILIES))
    family = FAMILIES[kind]
    must = {
        "architectures": (config.get("architectures"), (None, [family.architecture])),
        "use_sliding_window": (config.get("use_sliding_window", False), (False, None)),
        "pretraining_tp": (config.get("pretraining_tp", 1), (1, None)),
        "scale_attn_weights": (config.get("scale_attn_weights", True), (True,)),
        "rope_interleaved": (config.get("rope_interleaved", False), (False, None)),
    }
    for name, (got, allowed) in must.items():
        if got not in allowed:
            raise OptionUnmappable(name, got, allowed)
    for name, value in config.items():
        if name not in READ and name not in WITHOUT_EFFECT and value not in (None, False, [], {}):
            raise OptionUnmappable(name, value, "an option that this compiler knows")


def read_size(config: Mapping[str, Any], name: str, most: int, default: int | None = None) -> int:
    """Return a size of the configuration, 1 .. most.

    Raises:
        SizeOutOfRange.
    """
    value = config.get(name)
    value = default if value is None else value
    if type(value) is not int or not 1 <= value <= most:
        raise SizeOutOfRange(name, value, f"1 .. {most}")
    return value


def read_number(value: Any, name: str, default: float, low: float, high: float) -> float:
    """Return a number of the configuration, low .. high.

    Raises:
        SizeOutOfRange.
    """
    value = default if value is None else value
    if type(value) not in {int, float} or not low <= value <= high:
        raise SizeOutOfRange(name, value, f"{low} .. {high}")
    return float(value)
