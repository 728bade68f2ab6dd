"""The pipeline as a whole: one function for each stage."""

from ensemble import ensemble
from features import features
from load import load
from split import split
from train import train

__all__ = ["ensemble", "features", "load", "split", "train"]
