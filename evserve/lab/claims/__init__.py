"""The claims of the founding documents: `experiments.py` measures, `verdicts.py` judges."""
