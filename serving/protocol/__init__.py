"""TensorFlow Serving's protocol without TensorFlow: the messages, and their tensors as NumPy arrays."""
