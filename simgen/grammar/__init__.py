"""A grammar of robot tasks: sentence <-> slots, exact both ways; no network, no model, no randomness.

``parse(text)`` reads a sentence into an ``Instruction`` (template and slots); ``render`` writes it back; a production
turns the slots into a TaskSpec. For every template and every filling of its slots ``parse(render(i)) == i``.
"""

from simgen.grammar.explain import sentence_error
from simgen.grammar.families import PRODUCTIONS
from simgen.grammar.match import Parsed, examples, parse
from simgen.grammar.production import Production, render

__all__ = ["PRODUCTIONS", "Parsed", "Production", "examples", "parse", "render", "sentence_error"]
