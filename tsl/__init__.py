"""Test-time scaling in context: generator, models, chain-of-thought inference and theory.

Science, tensors in and tensors out, reads from left to right: ``covariance`` -> ``laws`` -> ``prompts`` -> ``theory`` and
``exact``; models are ``lsa`` and ``gpt``, trained by ``training``; ``cot`` lets them think, ``stopping`` says when to stop,
``selection`` what to train on, ``baselines`` what else could be done, ``errors`` how far off an answer is, ``advice`` what a
practitioner should do. Chapters are written with ``runs``, ``claims``, ``figures`` and ``texts``. ``lab`` holds experiments
too long for a cell, ``press`` runs chapters and renders the book.

Bad input raises a ``ValueError`` that names the argument, its value and what is allowed: wrong types and shapes, dimensions
that disagree, numbers out of range, matrices that are not finite, not symmetric or singular where they must not be.
Docstrings say only what goes beyond that.
"""

__version__ = "0.1.0"
