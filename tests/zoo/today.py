"""What is not yet as it should be: strict xfails of the zoo's tests, with what is seen in its place.

A test that passes while its line stands here fails the run: the change that makes it pass deletes the line. A
member of REFUSED that becomes an export run by TensorFlow moves to BY_TENSORFLOW.
"""

from __future__ import annotations

# Members of the zoo that an export refuses, and the error that it ends in.
REFUSED: dict[str, str] = {
    "dien": "bare InternalError: Tensorflow type 21 not convertible to numpy dtype.",
    "dien_unrolled": "VerificationError: expected answers, found: ... inputs from different frames",
    "gru4rec": "VerificationError: expected answers, found: ... inputs from different frames",
    "lstm_user": "VerificationError: expected answers, found: ... inputs from different frames",
    "string_lookups": "InvalidInputError: embed_user: expected variables and constants only, found that ...",
    "feature_space": "bare ValueError: Failed to convert a NumPy array to a Tensor (Unsupported object ...",
    "raw_integers": "InvalidFileError: RUN/vocabulary/hour.npy: expected an .npy file, found none. Write ...",
    "open_length": "bare TypeError: unsupported operand type(s) for *: 'int' and 'NoneType'",
    "item_columns": "bare TypeError: score() missing 1 required positional argument: 'item_state'",
    "item_bias": "bare TypeError: score() missing 1 required positional argument: 'item_state'",
    "batch_score": "bare ValueError: Input 0 with name 'hist' of layer 'functional_5' is incompatible ...",
    "mixed_bfloat16": "VerificationError: serving_default: expected the answer of the reference search, ...",
    "gru4rec_archive": "VerificationError: expected answers, found: ... inputs from different frames",
    "string_lookups_archive": "InvalidInputError: embed_user: expected variables and constants only, ...",
    "einsum_functions": "Source: a tensor of the user of type bool and rank 1",
    "einsum_signatures": "Source: a tensor of the user of type bool and rank 1",
    "din_archive": "Mul: an operand of the user that differs from item to item",
}

# Members that are exported, and why the native executor does not run them.
BY_TENSORFLOW: dict[str, str] = {
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
    "two_tower": "BatchMatMulV2: a tensor of rank 3 for all items",
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

# Members whose networks `from_keras` takes, but whose export is refused.
FROM_KERAS: dict[str, str] = {
    "string_lookups": "InvalidInputError: embed_user: expected variables and constants only, found that ...",
}

# Odd cases whose answer is not what it should be, and what it is.
ODD: dict[str, str] = {
    "ScoreHasRecurrence": "bare InternalError: Tensorflow type 21 not convertible to numpy dtype.",
    "ScoreLoopsOverItems": "bare InternalError: Tensorflow type 21 not convertible to numpy dtype.",
    "IntegerHasNoVocabulary": "refused: InvalidFileError: RUN/vocabulary/item_ids.npy: expected an .npy ...",
    "StringIsHashed": "bare ValueError: Failed to convert a NumPy array to a Tensor (Unsupported object ...",
    "StringsAreHashedByKeras": "bare ValueError: Failed to convert a NumPy array to a Tensor ...",
    "StringsAreLookedUp": "refused: InvalidInputError: embed_user: expected variables and constants ...",
    "IntegersAreLookedUp": "refused: InvalidInputError: embed_user: expected variables and constants ...",
    "LengthIsOpen": "bare TypeError: unsupported operand type(s) for *: 'int' and 'NoneType'",
    "UserIsRecurrent": "refused: VerificationError: ... inputs from different frames",
    "UserIsRecurrentAndMapped": "refused: VerificationError: ... inputs from different frames",
    "UserLoops": "refused: VerificationError: ... inputs from different frames",
    "UserMaps": "refused: VerificationError: ... inputs from different frames",
    "UserScans": "refused: VerificationError: ... inputs from different frames",
    "UserBranchesOverTable": "bare AttributeError: 'NoneType' object has no attribute 'outer_context'",
    "FeatureNamed[two words]": "bare KeyError: 'two words'",
    "FeatureNamed[with-dash]": "bare KeyError: 'with-dash'",
    "FeatureNamed[with:colon]": "bare KeyError: 'with:colon'",
    "FeatureNamed[with.dot]": "bare KeyError: 'with.dot'",
    "FeatureNamed[1st]": "bare KeyError: '1st'",
    "FeatureNamed[_hidden]": "bare KeyError: '_hidden'",
    "FeatureNamed[self]": "bare TypeError: Function.get_concrete_function() got multiple values for ...",
    "FeatureNamed[点击]": "bare ValueError: Got non-flat/non-unique argument names for SavedModel ...",
    "StateNamed[user-vector]": "bare KeyError: 'user-vector'",
    "StateNamed[user vector]": "bare KeyError: 'user vector'",
    "StateNamed[user/vector]": "bare KeyError: 'user/vector'",
    "StateNamed[user.vector]": "bare KeyError: 'user.vector'",
    "StateNamed[_user]": "bare KeyError: '_user'",
    "StateNamed[2nd]": "bare KeyError: '2nd'",
    "StateNamed[self]": "bare TypeError: Function.get_concrete_function() got multiple values for ...",
}
