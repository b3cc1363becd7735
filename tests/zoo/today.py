"""What is not yet as it should be: strict xfails of the zoo's tests, with what is seen in its place.

A test that passes while its line stands here fails the run: the change that makes it pass deletes the line. A
member of REFUSED that becomes an export run by TensorFlow moves to BY_TENSORFLOW.
"""

from __future__ import annotations

# Members of the zoo that an export refuses, and the error that it ends in.
REFUSED: dict[str, str] = {
    "dien": "bare InternalError: Tensorflow type 21 not convertible to numpy dtype.",
}

# Members that are exported, and why the native executor does not run them.
BY_TENSORFLOW: dict[str, str] = {
    "einsum_functions": "Source: a tensor of the user of type bool and rank 1",
    "einsum_signatures": "Source: a tensor of the user of type bool and rank 1",
    "din_archive": "Mul: an operand of the user that differs from item to item",
    "mixed_bfloat16": "AddV2: an operation that the native executor does not know",
    "batch_score": "SelectV2: an operand of the user that differs from item to item",
    "item_bias": "Mul: an operand of the user that differs from item to item",
    "item_columns": "Einsum: an operation that the native executor does not know",
    "raw_integers": "Einsum: an operation that the native executor does not know",
    "feature_space": "Einsum: an operation that the native executor does not know",
    "string_lookups": "Einsum: an operation that the native executor does not know",
    "dien_unrolled": "Transpose: an operation that the native executor does not know",
    "din": "Reshape: a reshape that mixes rows and columns",
    "din_dice": "SelectV2: a user tensor of type bool",
    "din_subclassed": "Reshape: a reshape that mixes rows and columns",
    "target_attention": "SelectV2: a user tensor of type bool",
    "bst": "ConcatV2: a tensor of rank 3 for all items",
    "sim": "SelectV2: a user tensor of type bool",
    "hstu": "ConcatV2: a tensor of rank 3 for all items",
    "sasrec": "SelectV2: a user tensor of type bool",
    "bert4rec": "BatchMatMulV2: a tensor of rank 3 for all items",
    "encoder_subclassed": "SelectV2: a user tensor of type bool",
    "caser": "AddV2: an elementwise operation of [tile, 32] and [128, 32]",
    "comirec": "Einsum: a tensor of rank 3 for all items",
    "last_events": "Mul: an elementwise operation of [tile, 16] and [128, 16]",
    "cosine_towers": "Mul: an elementwise operation of [128, 32] and [tile, 32]",
    "sequential_towers": "BatchMatMulV2: a tensor of rank 3 for all items",
    "mixture_of_logits": "Mul: an elementwise operation of [128, 16] and [tile, 16]",
    "dcn_v2": "ConcatV2: a concatenation along another axis than the columns",
    "dcn_low_rank": "ConcatV2: a concatenation along another axis than the columns",
    "fm": "ConcatV2: a tensor of rank 3 for all items",
    "ffm": "Mul: an elementwise operation of [tile, 8] and [128, 8]",
    "deepfm": "ConcatV2: a tensor of rank 3 for all items",
    "xdeepfm": "ConcatV2: a tensor of rank 3 for all items",
    "autoint": "ConcatV2: a tensor of rank 3 for all items",
    "pnn": "ConcatV2: a tensor of rank 3 for all items",
    "fibinet": "ConcatV2: a tensor of rank 3 for all items",
    "final_mlp": "ConcatV2: a concatenation along another axis than the columns",
    "mmoe": "SelectV2: a user tensor of type bool",
    "ple": "Mul: an elementwise operation of [tile, 16] and [128, 16]",
    "user_gated_experts": "Reshape: a reshape that mixes rows and columns",
    "two_tasks_subclassed": "Mul: an elementwise operation of [tile, 16] and [128, 16]",
    "profile_rows": "SelectV2: a user tensor of type bool",
    "mixed_float16": "Const: a constant that is not float32",
    "float16": "Const: a constant that is not float32",
    "norms": "Mul: an elementwise operation of [tile, 16] and [128, 16]",
    "activations": "Mul: an elementwise operation of [128, 16] and [tile, 16]",
    "squared_distance": "SelectV2: a user tensor of type bool",
    "einsum": "SelectV2: a user tensor of type bool",
}

# Odd cases whose answer is not what it should be, and what it is.
ODD: dict[str, str] = {
    "ScoreHasRecurrence": "bare InternalError: Tensorflow type 21 not convertible to numpy dtype.",
    "ScoreLoopsOverItems": "bare InternalError: Tensorflow type 21 not convertible to numpy dtype.",
}
