"""The page: `page.py` puts it together, the rest are its parts; it loads nothing else."""
