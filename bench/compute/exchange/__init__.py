"""Networks as files that other runtimes read: ONNX, OpenVINO, torch programs."""
