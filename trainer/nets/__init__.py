"""Networks: specification, pretrained weights, ONNX graphs."""
