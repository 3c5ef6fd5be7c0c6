"""Trainers: TRL behind one seam. Worker side: may import torch."""
