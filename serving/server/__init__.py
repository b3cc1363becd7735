"""The embedded server: serves SavedModels over TensorFlow Serving's protocol.

It needs nothing but packages from pip. `nann serve` runs it; a program starts it like this:

```
from pathlib import Path
from nann.serving.server import ModelConfig, Server, ServerOptions

server = Server([ModelConfig(name="nann", base_path=Path("MODELS/nann"))], ServerOptions())
ports = server.start()  # Returns when the model is served.
...
server.stop(drain_seconds=30)
```
"""

from nann.serving.server._batching import BatchingOptions as BatchingOptions
from nann.serving.server._batching import read_batching_parameters_file as read_batching_parameters_file
from nann.serving.server._config import All as All
from nann.serving.server._config import Latest as Latest
from nann.serving.server._config import ModelConfig as ModelConfig
from nann.serving.server._config import Specific as Specific
from nann.serving.server._config import read_model_config_file as read_model_config_file
from nann.serving.server._manager import ManagerOptions as ManagerOptions
from nann.serving.server._metrics import read_monitoring_config_file as read_monitoring_config_file
from nann.serving.server._servable import SessionOptions as SessionOptions
from nann.serving.server._server import Ports as Ports
from nann.serving.server._server import Server as Server
from nann.serving.server._server import ServerOptions as ServerOptions
from nann.serving.server._server import bracketed as bracketed
from nann.serving.server._server import default_threads as default_threads
from nann.serving.server._status import Code as Code
from nann.serving.server._status import StatusError as StatusError
from nann.serving.server._tls import TlsConfig as TlsConfig
from nann.serving.server._tls import read_ssl_config_file as read_ssl_config_file
