"""The client: asks a server for the top items of users. Needs no TensorFlow.

Example:
  >>> from nann.serving.client import NannClient
  >>> with NannClient(target, model="nann") as client:
  ...     ids, scores = client.top_k(comm_seq, level_topn=[20, 30, 30, 30, 30, 10], timeout=10)
  >>> ids.shape
  (1, 10)
"""

from nann.errors import InvalidInputError as InvalidInputError
from nann.serving.client._async_client import AsyncNannClient as AsyncNannClient
from nann.serving.client._batches import in_batches as in_batches
from nann.serving.client._client import NannClient as NannClient
from nann.serving.client._connection import CallRecord as CallRecord
from nann.serving.client._errors import DeadlineExceededError as DeadlineExceededError
from nann.serving.client._errors import ModelNotFoundError as ModelNotFoundError
from nann.serving.client._errors import NannClientError as NannClientError
from nann.serving.client._errors import RequestRejectedError as RequestRejectedError
from nann.serving.client._errors import ResponseError as ResponseError
from nann.serving.client._errors import StaleReplicaError as StaleReplicaError
from nann.serving.client._errors import UnavailableError as UnavailableError
from nann.serving.client._errors import VersionMismatchError as VersionMismatchError
from nann.serving.client._results import MissingShard as MissingShard
from nann.serving.client._results import ModelMetadata as ModelMetadata
from nann.serving.client._results import ShardedTopK as ShardedTopK
from nann.serving.client._results import Signature as Signature
from nann.serving.client._results import TensorSpec as TensorSpec
from nann.serving.client._results import TopK as TopK
from nann.serving.client._results import VersionStatus as VersionStatus
from nann.serving.client._rows import RowsRejectedError as RowsRejectedError
from nann.serving.client._sharded import ShardedClient as ShardedClient
