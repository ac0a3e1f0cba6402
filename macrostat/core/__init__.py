"""The components of a model: parameters, scenarios, variables, behavior, and the model itself."""

from .behavior import Behavior as Behavior
from .constraints import ConstraintError as ConstraintError
from .constraints import ConstraintResolver as ConstraintResolver
from .constraints import LinearConstraint as LinearConstraint
from .constraints import ParameterLocation as ParameterLocation
from .model import Model as Model
from .parameters import BoundaryError as BoundaryError
from .parameters import Parameters as Parameters
from .scenarios import Scenarios as Scenarios
from .variables import Variables as Variables
