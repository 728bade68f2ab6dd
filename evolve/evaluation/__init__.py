"""Program to evaluation: trusted evaluator processes, each with a warm sandbox."""

from evolve.evaluation.link import EvaluatorConfig
from evolve.evaluation.pool import Evaluators

__all__ = ["EvaluatorConfig", "Evaluators"]
