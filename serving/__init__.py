"""`client` speaks to a server and needs no TensorFlow; `server` is the embedded one; both use `protocol`."""
