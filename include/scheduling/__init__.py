"""What runs next, where, with whom: the scheduler's decisions, free of frameworks and I/O."""

from include.native import use

COMPILED = use(__name__, __path__)  #: whether the modules are the compiled ones
