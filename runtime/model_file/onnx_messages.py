"""The messages of onnx.proto with the fields that attnrec writes; every other one is refused."""

from attnrec.runtime.model_file import protobuf as pb

# The outermost message of any ONNX file, whatever else is in it; MODEL is that of attnrec.
ANY_MODEL = pb.Message("the model", True, metadata_props=(14, pb.LIST))
ENTRY = pb.Message("a metadata entry", key=(1, pb.BYTES), value=(2, pb.BYTES))
MODEL = pb.Message(
    "the model",
    ir_version=(1, pb.NUMBER), producer_name=(2, pb.BYTES), producer_version=(3, pb.BYTES),
    domain=(4, pb.BYTES), model_version=(5, pb.NUMBER), doc_string=(6, pb.BYTES),
    graph=(7, pb.BYTES), opset_import=(8, pb.LIST), metadata_props=(14, pb.LIST),
    training_info=(20, pb.REFUSED), functions=(25, pb.REFUSED),
)  # fmt: skip
OPSET = pb.Message("an opset import", domain=(1, pb.BYTES), version=(2, pb.NUMBER))
GRAPH = pb.Message(
    "the graph",
    node=(1, pb.LIST), name=(2, pb.BYTES), initializer=(5, pb.LIST), doc_string=(10, pb.BYTES),
    input=(11, pb.LIST), output=(12, pb.LIST), value_info=(13, pb.LIST),
    metadata_props=(16, pb.LIST), sparse_initializer=(15, pb.REFUSED),
)  # fmt: skip
NODE = pb.Message(
    "a node",
    input=(1, pb.LIST), output=(2, pb.LIST), name=(3, pb.BYTES), op_type=(4, pb.BYTES),
    attribute=(5, pb.LIST), doc_string=(6, pb.BYTES), domain=(7, pb.BYTES),
    metadata_props=(9, pb.LIST),
)  # fmt: skip
_ONE_VALUE = {
    "name": (1, pb.BYTES), "f": (2, pb.FLOAT), "i": (3, pb.NUMBER), "s": (4, pb.BYTES),
    "t": (5, pb.BYTES), "g": (6, pb.BYTES), "doc_string": (13, pb.BYTES), "type": (20, pb.NUMBER),
    "graphs": (11, pb.REFUSED), "ref_attr_name": (21, pb.REFUSED),
}  # fmt: skip
ATTRIBUTE = pb.Message(
    "an attribute", floats=(7, pb.FLOATS), ints=(8, pb.NUMBERS), strings=(9, pb.LIST), **_ONE_VALUE
)
# The keys and values of a LabelEncoder: as many as items.
DICTIONARY = pb.Message(
    "an attribute", ints=(8, pb.N_NUMBERS), strings=(9, pb.N_BYTES), **_ONE_VALUE
)
TENSOR = pb.Message(
    "a tensor",
    dims=(1, pb.NUMBERS), data_type=(2, pb.NUMBER), string_data=(6, pb.N_BYTES),
    name=(8, pb.BYTES), raw_data=(9, pb.BYTES), doc_string=(12, pb.BYTES),
    metadata_props=(16, pb.LIST), segment=(3, pb.REFUSED), float_data=(4, pb.REFUSED),
    int32_data=(5, pb.REFUSED), int64_data=(7, pb.REFUSED), external_data=(13, pb.REFUSED),
    data_location=(14, pb.REFUSED),
)  # fmt: skip
VALUE = pb.Message(
    "an input or output",
    name=(1, pb.BYTES), type=(2, pb.BYTES), doc_string=(3, pb.BYTES), metadata_props=(4, pb.LIST),
)  # fmt: skip
TYPE = pb.Message("the type of an input or output", tensor=(1, pb.BYTES), denotation=(6, pb.BYTES))
TENSOR_TYPE = pb.Message("the type of a tensor", elem_type=(1, pb.NUMBER), shape=(2, pb.BYTES))
SHAPE = pb.Message("the shape of an input or output", dim=(1, pb.LIST))

# TensorProto.DataType
FLOAT, INT64, STRING = 1, 7, 8
BITS = {
    1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 16: 16,
    21: 4, 22: 4,
}  # fmt: skip
"""Bits of one number."""
DTYPES = {1: "<f4", 6: "<i4", 7: "<i8", 11: "<f8"}
