"""Check of an ONNX file before ONNX Runtime reads it: is it a network as our trainer writes them?

Only what is checked is read, by the wire format of Protocol Buffers (protobuf.dev, "Encoding");
weights are skipped. Field numbers are those of onnx.proto (github.com/onnx/onnx, onnx/onnx.proto).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

# The names of the graph's inputs and outputs: trainer/artefact.py says what they hold.
IMAGE, EXPLAIN = "image", "explain"
PROBABILITIES, NOVELTY = "probabilities", "novelty"
FINE_MAP, COARSE_MAP = "class_map.fine", "class_map.coarse"

# The trainer writes 17; int8 variants may be written as a later one.
OPSETS = range(17, 22)
CHANNELS = 3
MAX_SIDE = 1024
# Nested branches; the graph of a class map is one.
_DEEPEST = 4

# Of the packaged networks, their heads, novelty, class maps and int8 variants, and those that
# PyTorch's exporter writes for networks of timm. None reads a file, loops or calls other code.
_KNOWN = """
Abs Add And ArgMax AveragePool BatchNormalization Cast Ceil Clip Concat Constant ConstantOfShape
Conv CumSum DepthToSpace DequantizeLinear Div Dropout Einsum Elu Equal Erf Exp Expand Flatten Floor
Gather GatherElements GatherND Gemm GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual
HardSigmoid HardSwish Identity If InstanceNormalization LayerNormalization LeakyRelu Less
LessOrEqual Log MatMul Max MaxPool Mean Min Mod Mul Neg Not Or PRelu Pad Pow QuantizeLinear Range
Reciprocal ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu
Reshape Resize ScatterElements ScatterND Shape Sigmoid Sign Slice Softmax Softplus SpaceToDepth
Split Sqrt Squeeze Sub Sum Tanh Tile TopK Transpose Trilu Unsqueeze Where
"""
OPERATORS = frozenset(_KNOWN.split())
_UINT8, _FLOAT, _BOOL = 2, 1, 9  # of TensorProto.DataType
_DEFAULT_DOMAINS = ("", "ai.onnx")


class UnknownNetwork(ValueError):
    """The file is no network that our trainer writes; the message says what is unexpected."""


@dataclass(frozen=True, slots=True)
class Signature:
    """height, width: of the input in pixels; classes: of PROBABILITIES; outputs: their names."""

    height: int
    width: int
    classes: int
    outputs: tuple[str, ...]


@dataclass(slots=True)
class _Graph:
    """What is checked of a graph: its tensors as (name, element type, dimensions; 0: any)."""

    operators: set[str] = field(default_factory=set)
    inputs: list[tuple[str, int, list[int]]] = field(default_factory=list)
    outputs: list[tuple[str, int, list[int]]] = field(default_factory=list)


def signature(model: bytes) -> Signature:
    """The signature of an ONNX file. Raises UnknownNetwork."""
    try:
        graph = _model(memoryview(model))
    except (IndexError, UnicodeDecodeError, TypeError) as error:
        raise UnknownNetwork(f"it is no ONNX file: {error!r}") from error
    if unknown := graph.operators - OPERATORS:
        raise UnknownNetwork(f"it has operators that no network of ours has: {_names(unknown)}")
    inputs = {name: (kind, shape) for name, kind, shape in graph.inputs}
    outputs = {name: (kind, shape) for name, kind, shape in graph.outputs}
    if IMAGE not in inputs or inputs.keys() - {IMAGE, EXPLAIN}:
        raise UnknownNetwork(f"its inputs are {_names(inputs)}, expected {IMAGE}")
    if PROBABILITIES not in outputs:
        raise UnknownNetwork(f"its outputs are {_names(outputs)}, without {PROBABILITIES}")
    if unknown := outputs.keys() - {PROBABILITIES, NOVELTY, FINE_MAP, COARSE_MAP}:
        raise UnknownNetwork(f"it has outputs that no network of ours has: {_names(unknown)}")
    kind, shape = inputs[IMAGE]
    if kind != _UINT8 or len(shape) != 4 or shape[3] != CHANNELS:
        raise UnknownNetwork(f"its input {IMAGE} has the shape {shape}, expected N, h, w, 3")
    height, width = shape[1:3]
    if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE):
        raise UnknownNetwork(f"its input is {width} x {height} pixels, at most {MAX_SIDE} a side")
    if EXPLAIN in inputs and inputs[EXPLAIN] != (_BOOL, []):
        raise UnknownNetwork(f"its input {EXPLAIN} is not one truth value")
    kind, shape = outputs[PROBABILITIES]
    if kind != _FLOAT or len(shape) != 2 or shape[1] < 1:
        raise UnknownNetwork(f"its output {PROBABILITIES} has the shape {shape}, expected N, n")
    return Signature(height, width, shape[1], tuple(outputs))


def _names(names: Iterable[str]) -> str:
    return ", ".join(sorted(name[:60] for name in names)[:5]) or "none"


def _model(data: memoryview) -> _Graph:
    """Of a ModelProto."""
    graph, opset = None, 0
    for number, value in _fields(data):
        match number:
            case 7:
                # Protocol Buffers merges the occurrences of a message.
                graph = graph or _Graph()
                _read_graph(_bytes(value), graph, depth=0)
            case 8:
                domain, version = "", 0
                for part, content in _fields(_bytes(value)):
                    domain = _text(content) if part == 1 else domain
                    version = _number(content) if part == 2 else version
                if domain not in _DEFAULT_DOMAINS:
                    raise UnknownNetwork(f"it uses operators of {domain[:60]}")
                opset = version
            case 20 | 25:
                raise UnknownNetwork("it has functions or training steps of its own")
    if graph is None:
        raise UnknownNetwork("it is no ONNX file: it has no graph")
    if opset not in OPSETS:
        raise UnknownNetwork(
            f"it has operator set {opset}, expected {OPSETS.start} to {OPSETS.stop - 1}"
        )
    return graph


def _read_graph(data: memoryview, into: _Graph, depth: int) -> None:
    """Of a GraphProto; a branch adds its operators only."""
    if depth > _DEEPEST:
        raise UnknownNetwork("its branches are nested too deeply")
    for number, value in _fields(data):
        match number:
            case 1:
                _read_node(_bytes(value), into, depth)
            case 5:
                _check_tensor(_bytes(value))
            case 11 if not depth:
                into.inputs.append(_tensor_type(_bytes(value)))
            case 12 if not depth:
                into.outputs.append(_tensor_type(_bytes(value)))
            case 15:
                raise UnknownNetwork("it has sparse weights")


def _read_node(data: memoryview, into: _Graph, depth: int) -> None:
    for number, value in _fields(data):
        match number:
            case 4:
                into.operators.add(_text(value))
            case 5:
                for part, content in _fields(_bytes(value)):
                    if part in (5, 10):
                        _check_tensor(_bytes(content))
                    elif part in (6, 11):
                        _read_graph(_bytes(content), into, depth + 1)
                    elif part in (22, 23):
                        raise UnknownNetwork("it has sparse weights")
            case 7 if (domain := _text(value)) not in _DEFAULT_DOMAINS:
                raise UnknownNetwork(f"it uses operators of {domain[:60]}")


def _check_tensor(data: memoryview) -> None:
    for number, value in _fields(data):
        if number == 13 or (number == 14 and _number(value)):
            raise UnknownNetwork("its weights are in other files")


def _tensor_type(data: memoryview) -> tuple[str, int, list[int]]:
    """Name, element type and dimensions of a ValueInfoProto."""
    name, kind = "", 0
    shape: list[int] = []
    for number, value in _fields(data):
        if number == 1:
            name = _text(value)
        elif number == 2:
            for of_type, tensor in _fields(_bytes(value)):
                if of_type != 1:
                    raise UnknownNetwork(f"{name[:60]} is no tensor")
                for part, content in _fields(_bytes(tensor)):
                    if part == 1:
                        kind = _number(content)
                    elif part == 2:
                        shape = [_dimension(_bytes(each)) for _, each in _fields(_bytes(content))]
    return name, kind, shape


def _dimension(data: memoryview) -> int:
    return next((_number(value) for number, value in _fields(data) if number == 1), 0)


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of each field of a message; of fixed size ones, their bytes."""
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, position = _varint(data, position)
            yield number, value
            continue
        if wire == 2:
            length, position = _varint(data, position)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise UnknownNetwork(f"it is no ONNX file: wire type {wire}")
        end = position + length
        if end > len(data):
            raise UnknownNetwork("it is no complete ONNX file")
        yield number, data[position:end]
        position = end


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
        shift += 7
        if shift > 63:
            raise UnknownNetwork("it is no ONNX file: a number has more than 64 bits")


def _bytes(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise UnknownNetwork("it is no ONNX file: a number in place of a message")
    return value


def _text(value: int | memoryview) -> str:
    return bytes(_bytes(value)).decode()


def _number(value: int | memoryview) -> int:
    if not isinstance(value, int):
        raise UnknownNetwork("it is no ONNX file: a message in place of a number")
    return value
