"""What an untrusted model may hold: operators, data types, sizes. The one place to read, or to argue with.

What is accepted is listed; whatever is not in a list is refused by name. The lists hold what exporters write for honest
classifiers of pictures: PyTorch, TensorFlow and Keras by way of tf2onnx, and ONNX Runtime's own quantiser.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pi_agent.runtime.schema import NotAllowed

MAX_NODES = 20_000
MAX_RANK = 32
MAX_SIDE = 2**31 - 1
MAX_TENSOR_ELEMENTS = 128_000_000
"""In all tensors of the file together."""

STANDARD = frozenset({"", "ai.onnx"})
QUANTISER = "com.microsoft"
_CLASSIFIERS = """
    Abs Acos Acosh Add And Asin Asinh Atan Atanh BitCast BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Ceil Cos
    Cosh CumProd CumSum Det Div Einsum Equal Erf Exp Floor Gemm Greater GreaterOrEqual IsInf IsNaN Less LessOrEqual Log
    MatMul Max Mean Min Mod Mul Neg Not Or Pow Reciprocal Round Sign Sin Sinh Sqrt Sub Sum Tan Xor
    ArgMax ArgMin ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
    ReduceSumSquare
    Celu Clip Elu Gelu HardSigmoid HardSwish Hardmax LeakyRelu LogSoftmax Mish PRelu Relu Selu Shrink Sigmoid Softmax
    Softplus Softsign SwiGLU Swish Tanh ThresholdedRelu
    AveragePool Col2Im Conv ConvTranspose DeformConv GlobalAveragePool GlobalLpPool GlobalMaxPool LpPool MaxPool
    MaxRoiPool MaxUnpool RoiAlign
    BatchNormalization Dropout GroupNormalization ImageScaler InstanceNormalization LRN LayerNormalization
    LpNormalization MeanVarianceNormalization RMSNormalization SimplifiedLayerNormalization
    Attention CausalConvWithState GRU LSTM LinearAttention RNN RotaryEmbedding TensorScatter
    AffineGrid BlackmanWindow Cast CastLike CenterCropPad Compress Concat Constant ConstantOfShape DFT DepthToSpace
    Expand EyeLike Flatten Gather GatherElements GatherND GridSample HammingWindow HannWindow Identity MelWeightMatrix
    NonMaxSuppression NonZero OneHot Pad Range Reshape Resize ReverseSequence STFT Scatter ScatterElements ScatterND
    Shape Size Slice SpaceToDepth Split Squeeze Tile TopK Transpose Trilu Unique Unsqueeze Upsample Where
    ConvInteger DequantizeLinear DynamicQuantizeLinear MatMulInteger QLinearConv QLinearMatMul QuantizeLinear
"""
OPERATORS = frozenset(_CLASSIFIERS.split())
"""Of the standard domain."""
_QUANTISERS = """
    DequantizeLinear DynamicQuantizeLSTM DynamicQuantizeMatMul MatMulIntegerToFloat QGemm QLinearAdd QLinearAveragePool
    QLinearConcat QLinearGlobalAveragePool QLinearLeakyRelu QLinearMul QLinearSigmoid QLinearSoftmax QLinearWhere
    QuantizeLinear
"""
QUANTISED = frozenset(_QUANTISERS.split())
"""Of `com.microsoft`: what `quantize_static` and `quantize_dynamic` write, and ONNX Runtime when it joins these."""

_PLAIN = "ask for an export for evaluation: without branches, loops, lists, text and random numbers"
WHY_NOT = {
    "control flow, and a classifier needs none": "If Loop Scan SequenceMap",
    "random, but a verdict must come out the same for everybody": (
        "Bernoulli Multinomial RandomNormal RandomNormalLike RandomUniform RandomUniformLike"
    ),
    "about lists, not about tensors": (
        "ConcatFromSequence Optional OptionalGetElement OptionalHasElement SequenceAt SequenceConstruct SequenceEmpty "
        "SequenceErase SequenceInsert SequenceLength SplitToSequence"
    ),
    "about text or files, not about pixels": (
        "ImageDecoder RegexFullMatch StringConcat StringNormalizer StringSplit TfIdfVectorizer"
    ),
    "for training": "NegativeLogLikelihoodLoss SoftmaxCrossEntropyLoss",
}
"""Why a standard operator is not in the list; a test holds both lists together against the whole standard."""
_REASONS = {name: reason for reason, names in WHY_NOT.items() for name in names.split()}

BITS = {
    **{1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 16: 16},
    **{17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4, 23: 4, 24: 8, 25: 2, 26: 2},
}
"""Bits of one element for each data type that is accepted: numbers and booleans. Not text (8), not complex (14, 15)."""
ATTRIBUTE_TYPES = frozenset({0, 1, 2, 3, 4, 6, 7, 8, 9})
"""Numbers, texts and tensors, one or many; not graphs (5, 10), sparse tensors (11, 12) and types (13, 14)."""
_TYPED = {1: "float_data", 7: "int64_data", 11: "double_data", 12: "uint64_data", 13: "uint64_data"}
"""The list that holds the elements where they are not raw; for all other types it is int32_data."""


@dataclass
class Tensor:
    """What a tensor says of itself; `stored` counts values for each list of values, and bytes for `raw_data`."""

    data_type: int = 0
    sides: list[int] = field(default_factory=list)
    stored: dict[str, int] = field(default_factory=dict)


def check_operator(domain: str, operator: str) -> None:
    """Raises `NotAllowed` for an operator that is in neither list."""
    if domain in STANDARD:
        if operator in OPERATORS:
            return
        reason = _REASONS.get(operator)
        if reason is None:
            raise NotAllowed(f"the operator {shown(operator)} is not one that a classifier of pictures needs")
        raise NotAllowed(f"{operator} is {reason}", _PLAIN)
    if domain == QUANTISER and operator in QUANTISED:
        return
    hint = ""
    if domain == "ai.onnx.ml":
        hint = "these operators are for trees and tables; ask for a network in plain ONNX, without ZipMap"
    elif domain.startswith(QUANTISER):
        hint = "ask for the file as it was before ONNX Runtime optimised it; only its quantised operators are accepted"
    raise NotAllowed(f"the operator {shown(operator)} of the foreign domain {shown(domain)} is not accepted", hint)


def check_domains(domains: list[str]) -> None:
    """Imported operator sets: one version for each domain. That a domain is imported without use is usual and harmless.

    Raises `NotAllowed`.
    """
    seen: set[str] = set()
    for domain in domains:
        plain = "" if domain in STANDARD else domain
        if plain in seen:
            raise NotAllowed(f"it imports the operators of {shown(plain or 'ai.onnx')} twice")
        seen.add(plain)


def check_metadata(key: str) -> None:
    """Raises `NotAllowed` for an entry that ONNX Runtime would take for settings of its own session."""
    if key.lower() == "ort_config":
        raise NotAllowed("its metadata give ONNX Runtime settings ('ort_config')")


def check_attribute_type(kind: int) -> None:
    """Raises `NotAllowed` for attributes that are graphs, sparse tensors, types or nothing known."""
    if kind not in ATTRIBUTE_TYPES:
        raise NotAllowed(f"its type {kind} is not accepted")


def check_data_type(data_type: int) -> None:
    """Raises `NotAllowed` for texts, complex numbers and types that nobody knows."""
    if data_type == 8:
        raise NotAllowed("it holds text")
    if data_type not in BITS:
        raise NotAllowed(f"its data type {data_type} is not accepted")


def check_side(side: int) -> None:
    """A side of an input, output or value in between; -1 is an old spelling of "any". Raises `NotAllowed`."""
    if side > MAX_SIDE and side != 2**64 - 1:
        raise NotAllowed("it has a negative dimension" if side >> 63 else f"it has a dimension above {MAX_SIDE:,}")


def check_tensor(tensor: Tensor) -> int:
    """How many elements it has. Raises `NotAllowed` if it is too large, or holds more or less than it declares."""
    elements = 1
    for side in tensor.sides:
        if side >> 63:
            raise NotAllowed("it has a negative dimension")
        elements *= side
    if max(elements, *tensor.sides, 0) > MAX_TENSOR_ELEMENTS:
        raise NotAllowed(f"it declares more than {MAX_TENSOR_ELEMENTS:,} elements")
    check_data_type(tensor.data_type)
    if len(tensor.stored) > 1:
        raise NotAllowed(f"it holds its data twice, as {' and as '.join(sorted(tensor.stored))}")
    bits = BITS[tensor.data_type]
    typed = _TYPED.get(tensor.data_type, "int32_data")
    for where in tensor.stored:
        if where not in ("raw_data", typed):
            raise NotAllowed(f"its {where} does not go with its data type {tensor.data_type}")
    packed = elements if bits >= 8 else -(-elements * bits // 8)
    needed = packed * max(1, bits // 8) if "raw_data" in tensor.stored else packed
    held = sum(tensor.stored.values())
    if held != needed:
        unit = "bytes" if "raw_data" in tensor.stored else "values"
        raise NotAllowed(f"it declares {elements:,} elements, {needed:,} {unit}, but holds {held:,}")
    return elements


def shown(name: str) -> str:
    """A stranger's name for a message: short, quoted, without control characters."""
    text = repr(name)
    return text if len(text) <= 100 else text[:96] + "...'"
