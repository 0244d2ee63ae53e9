"""Test-time scaling in context: generator, models, chain-of-thought inference and theory.

The modules read from left to right: ``covariance`` -> ``prompts`` -> (``lsa`` | ``gpt`` | ``baselines``) -> ``cot`` ->
``errors``; ``theory`` predicts each of them and ``claims`` compares the two.
"""

__version__ = "0.1.0"
