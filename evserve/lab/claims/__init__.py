"""The claims of the tutorials: `experiments.py` measures, `verdicts.py` judges."""
