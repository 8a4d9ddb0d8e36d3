"""What models learn from: data sets that load decoded arrays, split once and for all into train and test."""

from bench.data.base import Data, Dataset, NoOptions

__all__ = ["Data", "Dataset", "NoOptions"]
