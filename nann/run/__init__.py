"""A run: the folder of a trained model with its embeddings and index, and loading its model."""

from nann.run.description import ATTRIBUTES as ATTRIBUTES
from nann.run.description import CHECKPOINTS as CHECKPOINTS
from nann.run.description import EMBEDDINGS as EMBEDDINGS
from nann.run.description import INDEX as INDEX
from nann.run.description import REQUESTS as REQUESTS
from nann.run.description import RUN_FILE as RUN_FILE
from nann.run.description import TITLES as TITLES
from nann.run.description import VOCABULARY as VOCABULARY
from nann.run.description import Run as Run
from nann.run.description import read_run as read_run
from nann.run.description import write_run as write_run
from nann.run.guard import guarded as guarded
from nann.run.keras_model import KerasModel as KerasModel
from nann.run.keras_model import from_keras as from_keras
from nann.run.keras_model import load_keras_files as load_keras_files
from nann.run.loader import class_name as class_name
from nann.run.loader import load_model as load_model
from nann.run.model import RetrievalModel as RetrievalModel
from nann.run.model import check_given_model as check_given_model
from nann.run.model import check_model as check_model
from nann.run.model import features_of as features_of
from nann.run.model import item_features_of as item_features_of
from nann.run.model import item_state_of as item_state_of
from nann.run.model import scores_batches as scores_batches
