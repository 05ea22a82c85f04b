"""The streaming step as ONNX or torch.export."""
